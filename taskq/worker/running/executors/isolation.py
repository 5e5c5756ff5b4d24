"""Child processes for suspects: a message that may have killed its worker runs where it can only kill itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from taskq.values.delivery import Delivery, limits_of
from taskq.worker.running.executors import Finished
from taskq.worker.running.executors.children import Child
from taskq.worker.running.executors.processes import ProcessExecutor
from taskq.worker.running.runner import Runner

logger = logging.getLogger("taskq.worker")

MOST_SLOTS = 8
"""Children at once."""
IDLE = 30.0
"""Seconds without a suspect after which the children end."""
FAILED_STARTS = 3
"""Children in a row that end before they are ready, after which suspects run in the worker itself."""


class Isolation(ProcessExecutor):
    """A pool of children that exists only while there are suspects; it runs async tasks too.

    Args:
        slots: how many of the worker's slots there are for sync tasks: so many children at most.
        app_path: ``module:attribute`` of the app; every child imports it.
        runner: for the outcomes of messages whose child was killed.
        finished: tells the worker.
    """

    def __init__(self, slots: int, app_path: str, runner: Runner, finished: Finished) -> None:
        super().__init__(min(slots, MOST_SLOTS), app_path, runner, finished)
        self.usable = True
        self.booked: set[Delivery] = set()
        """Suspects that are to run here as soon as nothing else stands in their way."""
        self.unusable: Callable[[list[Delivery]], None] = lambda suspects: None
        """Called once with what waits, when children do not come up."""
        self._failed_starts = 0
        self._idle: asyncio.TimerHandle | None = None

    def submit(self, deliveries: list[Delivery]) -> None:
        if not deliveries:
            return
        for delivery in deliveries:
            self.booked.discard(delivery)
            delivery.limited = limits_of(delivery) != (None, None)
        super().submit(deliveries)
        if self._idle is not None:
            self._idle.cancel()
        self._idle = self._loop.call_later(IDLE, self._end_if_idle)
        for _ in range(min(self.slots, self.load()) - len(self._children) - len(self._starts)):
            self._begin(self._spawn())

    def died(self, each: Child) -> None:
        self._failed_starts = 0 if each.ready else self._failed_starts + 1
        super().died(each)
        if self._failed_starts >= FAILED_STARTS and self.usable and not self._closed:
            logger.error("child processes for suspects do not come up; suspects run in the worker itself")
            self.usable = False
            self.unusable(self.take_waiting())

    async def _respawn(self) -> None:
        if self._waiting:
            await super()._respawn()

    def _end_if_idle(self) -> None:
        if self.load():
            self._idle = self._loop.call_later(IDLE, self._end_if_idle)
            return
        for each in self._children:
            each.close()
