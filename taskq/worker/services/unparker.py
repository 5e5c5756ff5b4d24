"""Moves parked messages back into their queue as their rate limits allow; runs in every worker, the script makes that
safe, and sees to it that one worker at a time does most of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from taskq import failpoints
from taskq.broker import scripts
from taskq.broker.calls import Call
from taskq.client.task import BaseTask
from taskq.values.rates import RateLimit
from taskq.worker.partition.partition import QueueLink
from taskq.worker.services.service import Lookout, sweep_wait

NO_LIMIT = RateLimit(1_000_000, 1)
"""Of a task that had a limit when its messages were parked, and has none any more."""


class Unparker(Lookout):
    """Moves the parked messages of one queue; woken when something was parked.

    Args:
        link: the queue.
        tasks: of the app; messages of a task that is not known here stay parked, as somebody else knows it.
        run: runs a call on the worker's connection.
        execute: runs a command on it.
    """

    def __init__(
        self,
        link: QueueLink,
        tasks: Mapping[str, BaseTask[Any, Any]],
        run: Callable[[Call], Awaitable[Any]],
        execute: Callable[..., Awaitable[Any]],
    ) -> None:
        super().__init__(f"unparker of {link.queue}")
        self._link = link
        self._tasks = tasks
        self._run = run
        self._execute = execute

    async def _look(self) -> float:
        """Move what may be moved; seconds until the next look."""
        wait = sweep_wait()
        if self._link.paused:
            return wait
        for name in await self._execute("SMEMBERS", self._link.keys.limited):
            task = self._tasks.get(name.decode(errors="replace"))
            if task is not None:
                next_ms = await self._move(task)
                if next_ms >= 0:
                    wait = min(wait, next_ms / 1000)
        return wait

    async def _move(self, task: BaseTask[Any, Any]) -> int:
        """Move what may be moved of one task; ms until the next look, -1 for none."""
        link, limit = self._link, task.settings.rate_limit or NO_LIMIT
        while True:
            if failpoints.ARMED:
                failpoints.hit("unpark.send")
            _, next_ms = await self._run(scripts.unpark(link.keys, link.consumer, task.name, limit))
            if failpoints.ARMED:
                failpoints.hit("unpark.moved")
            if next_ms != 0:
                return int(next_ms)
