"""Time limits: timers for the few tasks that have one, so that all others pay nothing."""

from __future__ import annotations

import asyncio

from taskq.delivery import Delivery
from taskq.message import PLAIN
from taskq.worker.executors import Executor


def limits_of(delivery: Delivery) -> tuple[float | None, float | None]:
    """Soft and hard limit in seconds: what the call said, else what the task says."""
    meta, options = delivery.message.meta or PLAIN, delivery.task.settings
    soft = meta.soft_time_limit if meta.soft_time_limit is not None else options.soft_time_limit
    hard = meta.time_limit if meta.time_limit is not None else options.time_limit
    return soft, hard


class TimeLimits:
    """Arms the timers of deliveries when they start, and has their executor stop them.

    Args:
        loop: the worker's event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def started(self, delivery: Delivery, executor: Executor) -> None:
        """*delivery* begins to run now; from any thread."""
        self._loop.call_soon_threadsafe(self._arm, delivery, executor)

    def _arm(self, delivery: Delivery, executor: Executor) -> None:
        for why, limit in zip(("soft time limit", "time limit"), limits_of(delivery), strict=True):
            if limit is not None:
                self._loop.call_later(limit, self._strike, delivery, executor, why)

    def _strike(self, delivery: Delivery, executor: Executor, why: str) -> None:
        # settled already: the entry is gone, and its slot runs something else
        ours = delivery.link.held.get(delivery.key) is delivery
        if ours and delivery.cancelled in ("", "soft time limit"):  # one that was ignored stops no other
            delivery.cancelled = why
            executor.stop_delivery(delivery)
