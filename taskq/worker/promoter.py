"""Moves delayed messages into their queues when they are due; runs in every worker, the script makes that safe.

Redis checks blocking timeouts only ten times a second, so a timer on our side is set to the next due time instead
(the script tells it), and a published wake-up moves it forward when an earlier message comes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

from taskq import failpoints
from taskq.broker import scripts
from taskq.broker.scripts import Call
from taskq.errors import BrokerError
from taskq.worker.link import QueueLink

logger = logging.getLogger("taskq.worker")

SWEEP = 60.0
"""Longest seconds between two looks: what makes up for a wake-up that was lost with its connection."""


class Promoter:
    """Promotes the delayed messages of one queue.

    Args:
        link: the queue.
        run: runs a call on the worker's connection.
    """

    def __init__(self, link: QueueLink, run: Callable[[Call], Awaitable[Any]]) -> None:
        self._link = link
        self._run = run
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; the first look is at once."""
        self._task = asyncio.create_task(self._loop())

    def wake(self) -> None:
        """There is a new earliest message: look now."""
        self._woken.set()

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _loop(self) -> None:
        while True:
            self._woken.clear()
            wait = await self._promote_due()
            try:
                async with asyncio.timeout(wait):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def _promote_due(self) -> float:
        """Promote all that is due; seconds until the next look."""
        while True:
            try:
                if failpoints.ARMED:
                    failpoints.hit("promote.send")
                _, next_ms = await self._run(scripts.promote(self._link.keys))
                if failpoints.ARMED:
                    failpoints.hit("promote.moved")
            except BrokerError as error:
                logger.debug("promoter of %s: %s", self._link.queue, error)
                return 1.0
            if next_ms != 0:
                return SWEEP * random.uniform(0.8, 1.2) if next_ms < 0 else min(next_ms / 1000, SWEEP)
