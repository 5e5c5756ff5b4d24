"""Messages that a worker holds although they neither run nor wait for anything: there should be none, ever.

A worker whose slots all run long tasks is well. One that holds a message which nothing of it knows any more keeps it
from everybody else until it stops: readiness says so, and a log line names the message.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from taskq.values.delivery import Delivery
from taskq.worker.partition.partition import QueueLink

logger = logging.getLogger("taskq.worker")

EVERY = 5.0
"""Seconds between two looks."""
WITHIN = 30.0
"""Seconds after which a message that nothing knows is a stray: what is being asked for in Redis is known by then."""


class Holder(Protocol):
    """A place where deliveries are, whether they run, wait or have ended."""

    def held(self) -> Iterable[Delivery]:
        """All of them; of a batch the batch."""


class Strays:
    """Looks for strays.

    Args:
        links: the queues.
        holders: where their deliveries may be.
    """

    def __init__(self, links: Sequence[QueueLink], holders: Sequence[Holder]) -> None:
        self._links = links
        self._holders = holders
        self._since: dict[Delivery, float] = {}
        self._named: set[Delivery] = set()

    @property
    def any(self) -> bool:
        """Whether there were some at the last look; may be asked from any thread."""
        return bool(self._named)

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(EVERY)
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """Look now, at *now* by ``time.monotonic()``."""
        unknown = self._unknown()
        self._since = {delivery: self._since.get(delivery, now) for delivery in unknown}
        strays = {delivery for delivery, since in self._since.items() if now - since >= WITHIN}
        for delivery in strays - self._named:
            logger.error(
                "%s[%s] is held and nothing runs it: this worker is not ready; it runs elsewhere when this one stops",
                *(delivery.message.task, delivery.message.task_id),
            )
        self._named = strays

    def _unknown(self) -> list[Delivery]:
        held = [delivery for link in self._links for delivery in link.held.values()]
        if not held:
            return held
        known: set[Delivery] = set()
        for link in self._links:
            known.update(item[0] for item in (*link.ended, *link.taken))
        for holder in self._holders:
            for delivery in holder.held():
                known.update((delivery,) if delivery.members is None else delivery.members)
        return [delivery for delivery in held if delivery not in known]
