"""How much to fetch: enough to keep every slot busy and to hide a round trip, and no more."""

from __future__ import annotations

from collections.abc import Sequence

from taskq.worker.batches import Batches
from taskq.worker.executors import Executor
from taskq.worker.permits import Gate

AHEAD = 0.004
"""Seconds of work held beyond the busy slots: what hides a round trip."""


class Demand:
    """What the executors have use for.

    Args:
        executors: whose slots are to be filled.
        most_ahead: deliveries held beyond the slots, at most.
        batches: what is being collected, if there are batch tasks.
        gate: what waits for permits, if there are tasks with a rate limit.
    """

    def __init__(
        self, executors: Sequence[Executor], most_ahead: int, batches: Batches | None, gate: Gate | None
    ) -> None:
        self.executors = executors
        self._batches = batches
        self._gate = gate
        self._most_ahead = most_ahead
        self.stalled = False
        """Whether nothing ended for a while: then nothing is held ahead, however short tasks were before."""

    def credit(self) -> int:
        """How many more deliveries there is use for now."""
        credit = 0
        for executor in self.executors:
            ahead = self._ahead(executor)
            room = executor.slots + ahead - executor.load()
            if room <= -executor.slots:
                return 0  # one kind is overfull: what we fetch next might be more of it
            if room > ahead // 4:  # below that there is work at hand, and small requests are not worth their call
                credit = max(credit, room)
        if self._gate is not None:
            credit = self._gate.credit(credit)
        return credit if self._batches is None else self._batches.credit(credit, self.stalled)

    def waiting(self) -> bool:
        """Whether deliveries wait for a slot."""
        if (self._batches is not None and self._batches.blocked) or (self._gate is not None and self._gate.blocked):
            return True
        return any(executor.load() > executor.slots for executor in self.executors)

    def _ahead(self, executor: Executor) -> int:
        """How many deliveries the executor may hold beyond its slots: many short ones, no long one."""
        mean = executor.service_time()
        if mean is None or self.stalled:
            return 0
        return min(int(executor.slots * AHEAD / max(mean, 1e-6)), self._most_ahead)
