"""Moves delayed messages into their queues when they are due; runs in every worker, the script makes that safe.

The script tells when the next message is due, and a published wake-up tells of an earlier one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from taskq import failpoints
from taskq.broker import scripts
from taskq.broker.calls import Call
from taskq.worker.partition.partition import QueueLink
from taskq.worker.services.service import SWEEP, Lookout, sweep_wait


class Promoter(Lookout):
    """Promotes the delayed messages of one queue; woken when there is a new earliest message.

    Args:
        link: the queue.
        run: runs a call on the worker's connection.
    """

    def __init__(self, link: QueueLink, run: Callable[[Call], Awaitable[Any]]) -> None:
        super().__init__(f"promoter of {link.queue}")
        self._link = link
        self._run = run

    async def _look(self) -> float:
        """Promote all that is due; seconds until the next look."""
        while True:
            if failpoints.ARMED:
                failpoints.hit("promote.send")
            _, next_ms = await self._run(scripts.promote(self._link.keys))
            if failpoints.ARMED:
                failpoints.hit("promote.moved")
            if next_ms != 0:
                return sweep_wait() if next_ms < 0 else min(next_ms / 1000, SWEEP)
