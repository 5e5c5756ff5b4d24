"""Suspects: messages that were in the hands of a worker that died. They run one at a time, and on the record.

When a whole worker process dies, nobody knows which of its messages killed it. All become suspects, none is charged.
A suspect runs alone (among suspects), and a mark in Redis says so first: if the worker dies again, recovery charges
the marked one and no other. An innocent neighbour thus is never charged for what another message does, and a message
that kills every worker it meets is found after ``max_crashes``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from taskq import failpoints
from taskq.broker import scripts
from taskq.broker.scripts import Call
from taskq.delivery import Delivery
from taskq.errors import BrokerError

logger = logging.getLogger("taskq.worker")

RETRY_EVERY = 0.5
"""Seconds between tries to mark a suspect while Redis cannot be reached."""


class Quarantine:
    """Lets suspects run one after the other.

    Args:
        run_call: runs a script on the worker's connection.
        run: hands a delivery to its executor.
    """

    def __init__(self, run_call: Callable[[Call], Awaitable[object]], run: Callable[[list[Delivery]], None]) -> None:
        self._run_call = run_call
        self._run = run
        self._waiting: deque[Delivery] = deque()
        self._current: Delivery | None = None
        self._marking: asyncio.Task[None] | None = None

    def add(self, suspects: Sequence[Delivery]) -> None:
        """Run these when their turn comes."""
        self._waiting.extend(suspects)
        self._next()

    def ended(self, delivery: Delivery) -> None:
        """*delivery* has been settled, or is no longer ours."""
        if delivery is self._current:
            self._current = None
            self._next()

    def take_waiting(self) -> list[Delivery]:
        """Give up what has not started."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def clear(self) -> None:
        """Forget everything: it belongs to others now."""
        self._waiting.clear()
        self._current = None

    def _next(self) -> None:
        if self._current is None and self._waiting:
            self._current = self._waiting.popleft()
            self._marking = asyncio.create_task(self._mark_and_run(self._current))

    async def _mark_and_run(self, delivery: Delivery) -> None:
        link = delivery.link
        call = scripts.mark(link.keys, delivery.stream, link.consumer, delivery.entry)
        while self._current is delivery:
            try:
                if failpoints.ARMED:
                    failpoints.hit("suspect.mark")
                marked = await self._run_call(call)
                if failpoints.ARMED:
                    failpoints.hit("suspect.marked")
            except BrokerError as error:
                logger.debug("cannot mark a suspect: %s", error)
                await asyncio.sleep(RETRY_EVERY)
                continue
            if marked and self._current is delivery:
                self._run([delivery])
            elif self._current is delivery:  # lost meanwhile; whoever recovers it has it
                self.ended(delivery)
            return
