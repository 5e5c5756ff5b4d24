"""Collects the deliveries of batch tasks until there are enough of them, or the first has waited long enough."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskq import failpoints
from taskq.values.delivery import BatchDelivery, Delivery
from taskq.worker.partition.partition import QueueLink
from taskq.worker.partition.settling import Ended, Outcome, Together, released, restored
from taskq.worker.running.executors import Executor, finish


class BatchLink:
    """Stands where a delivery's link is: takes the outcome of a whole batch, and hands each member its own.

    Args:
        queue: the name of the members' queue.
        ended: told when the batch has ended.
    """

    __slots__ = ("_told", "held", "queue")

    def __init__(self, queue: str, ended: Callable[[BatchDelivery], object]) -> None:
        self.queue = queue
        self.held: dict[tuple[bytes, bytes], Delivery] = {}
        self._told = ended

    @property
    def ended(self) -> BatchLink:
        """Where :func:`finish` appends."""
        return self

    def append(self, item: Ended) -> None:
        """Take the batch's outcome; from any thread. Each member is told its share of the time."""
        batch, outcome, runtime = item
        assert isinstance(batch, BatchDelivery)
        self.held.clear()
        share = runtime / len(batch.members)
        for member, own in zip(batch.members, _of_members(batch, outcome), strict=True):
            finish(member, own, share)
        self._told(batch)


def _of_members(batch: BatchDelivery, outcome: Outcome) -> Iterable[Outcome]:
    if not isinstance(outcome.end, Together):  # not started: given back as a whole
        return (released(member) for member in batch.members)
    return (own if isinstance(own, Outcome) else restored(own) for own in outcome.end.outcomes)


class _Collected:
    """One batch that is being collected."""

    __slots__ = ("key", "members", "ready", "timer")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.members: list[Delivery] = []
        self.ready = False
        """Whether it may start; until it has started, others may still join."""
        self.timer: asyncio.TimerHandle | None = None

    @property
    def link(self) -> QueueLink:
        """Where the members come from."""
        return self.members[0].link  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Collecting:
    """The place of a call of a batch task: company in a batch that runs on *executor*."""

    executor: Executor
    batches: Batches = field(repr=False)


class Batches:
    """The batches of one worker process. Everything here happens on the event loop's thread.

    Args:
        executor_of: where a task runs.
        sizes: for each executor, the largest batch that it may be given.
        failed: the outcome of a call whose ``by`` raised.
    """

    def __init__(
        self,
        executor_of: Callable[[Any], Executor],
        sizes: dict[Executor, int],
        failed: Callable[[Delivery, BaseException], Outcome],
    ) -> None:
        self._executor_of = executor_of
        self._sizes = sizes
        self._failed = failed
        self._open: dict[Hashable, _Collected] = {}
        self._ready: deque[_Collected] = deque()
        self._waiting: Counter[Executor] = Counter()
        self._live: dict[BatchDelivery, None] = {}
        self._recent = 0
        self.places = {executor: Collecting(executor, self) for executor in sizes}
        """What the calls of batch tasks need, by where they run."""
        self.draining = False
        """Whether to give back at once whatever comes."""

    def take(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Take those of batch tasks; the others are returned."""
        others: list[Delivery] = []
        for delivery in deliveries:
            if delivery.task.settings.batch is None:
                others.append(delivery)
            elif self.draining:
                finish(delivery, released(delivery), 0.0)
            else:
                self._add(delivery)
        self._recent = len(deliveries) - len(others)
        self.start_ready()
        return others

    def held(self) -> list[Delivery]:
        """What waits for company or for a slot."""
        return [member for collected in (*self._open.values(), *self._ready) for member in collected.members]

    @property
    def blocked(self) -> bool:
        """Whether batches could start but for want of a slot."""
        return bool(self._ready)

    @property
    def collects(self) -> bool:
        """Whether there are batches that have not started."""
        return bool(self._open or self._ready)

    def start_ready(self) -> None:
        """Start what is ready and finds a slot free, or a queue for one."""
        for collected in list(self._ready):
            executor = self._executor_of(collected.members[0].task)
            # where all slots are busy and nobody else waits for one, it waits here, and others may join it
            if executor.load() != executor.slots:
                self._ready.remove(collected)
                self._submit(collected, executor)

    def take_waiting(self, only: QueueLink | None = None) -> list[Delivery]:
        """Give up what waits for a slot; when draining, and of *only* one queue, all that has not started."""
        given_up = [each for each in self._ready if only is None or each.link is only]
        if self.draining or only is not None:
            others = [each for each in self._open.values() if not each.ready]
            given_up += [each for each in others if only is None or each.link is only]
        for collected in given_up:
            if collected.ready:
                self._ready.remove(collected)
            self._close(collected)
        return [member for collected in given_up for member in collected.members]

    def lease_lost(self) -> None:
        """Forget what has not started, and stop what runs: it belongs to others now."""
        for collected in {*self._ready, *self._open.values()}:  # what is ready may still be open, too
            self._close(collected)
        self._ready.clear()
        for batch in list(self._live):
            batch.cancelled = "lease lost"
            self._executor_of(batch.task).stop_delivery(batch)

    def credit(self, credit: int, room: int) -> int:
        """How many deliveries there is use for, where without batches it would be *credit*.

        Enough to fill the batches, but at most twice as many as lately were of batch tasks: nobody knows what comes.
        """
        return max(credit, min(room, 2 * self._recent))

    def room(self, executor: Executor, stalled: bool) -> int:
        """How many more calls may wait for company: a batch for every free slot, and one ahead unless *stalled*."""
        free = max(executor.slots - executor.load(), 0)
        return self._sizes[executor] * (free if stalled else free + 1) - self._waiting[executor]

    def last_waiting(self) -> object:
        """The last batch that waits for a slot."""
        return self._ready[-1] if self._ready else None

    def waits(self, collected: object) -> bool:
        """Whether *collected* still waits for a slot."""
        return collected in self._ready

    def _add(self, delivery: Delivery) -> None:
        task = delivery.task
        batch = task.settings.batch
        try:
            group = batch.by and batch.by(*delivery.message.args, **delivery.message.kwargs)
            # a suspect is alone: nobody shares the fate of a message that may kill its worker
            key = (delivery.link, task.name, group, delivery.key if delivery.suspect else None)
            collected = self._open.get(key)
        except Exception as error:
            finish(delivery, self._failed(delivery, error), 0.0)
            return
        if collected is None:
            collected = self._open[key] = _Collected(key)
            if not delivery.suspect:
                loop = asyncio.get_running_loop()
                collected.timer = loop.call_later(batch.wait, self._time_is_up, collected)
        collected.members.append(delivery)
        self._waiting[self._executor_of(task)] += 1
        if delivery.suspect or len(collected.members) >= batch.size:
            del self._open[key]
            self._make_ready(collected)

    def _time_is_up(self, collected: _Collected) -> None:
        if not collected.ready:
            self._make_ready(collected)
            self.start_ready()

    def _make_ready(self, collected: _Collected) -> None:
        if not collected.ready:
            collected.ready = True
            self._ready.append(collected)

    def _close(self, collected: _Collected) -> None:
        """Let nobody join any more."""
        if self._open.get(collected.key) is collected:
            del self._open[collected.key]
        if collected.timer is not None:
            collected.timer.cancel()
        self._waiting[self._executor_of(collected.members[0].task)] -= len(collected.members)

    def _submit(self, collected: _Collected, executor: Executor) -> None:
        self._close(collected)
        if failpoints.ARMED:
            failpoints.hit("collect.submit")
        members = collected.members
        batch = BatchDelivery(BatchLink(members[0].link.queue, self._forget), members)
        batch.link.held[batch.key] = batch
        batch.limited = batch.task.limited
        self._live[batch] = None
        executor.submit([batch])

    def _forget(self, batch: BatchDelivery) -> None:
        self._live.pop(batch, None)
