"""How much to fetch: enough to keep every slot busy and to hide a round trip, and no more.

A message needs a *place*: a slot of an executor, company in a batch, or its turn among the suspects. What no place is
free for soon is not held, for another worker may have one. Who fetches whatever comes fetches as many as the scarcest
place has room for; while one is full, only what another place takes is picked (:mod:`taskq.worker.exchange.picker`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from taskq.broker.scripts.settling import Release
from taskq.values.delivery import Delivery
from taskq.worker.admission.batches import Collecting
from taskq.worker.admission.intake import Intake
from taskq.worker.partition.partition import Place, QueueLink
from taskq.worker.partition.settling import Ended
from taskq.worker.partition.sizes import BUDGET
from taskq.worker.running.executors import Executor

AHEAD = 0.004
"""Seconds of work held beyond the busy slots: what hides a round trip."""
SOON = 0.05
"""Seconds of work, for all slots together, that may wait rather than be given back."""
PATIENCE = 0.25
"""Seconds that a delivery may wait for its place before it is given back."""
RARE = 0.01
"""Share of a queue's messages below which a place is not expected to be asked for."""

_task = attrgetter("task")


class Demand:
    """What there is use for.

    Args:
        intake: has the places.
        most_ahead: deliveries held beyond the slots of an executor, at most.
        links: the queues.
    """

    def __init__(self, intake: Intake, most_ahead: int, links: Sequence[QueueLink]) -> None:
        self._intake = intake
        self._executors = intake.executors()
        self._batches = intake.batches
        self._gate = intake.gate
        self._most_ahead = most_ahead
        self._links = links
        self._marks: dict[Place, tuple[object, float]] = {}
        self._stalled: set[Place] = set()
        """Executors, or the quarantine, in which something waited for too long: until something has ended there,
        nothing is held ahead."""
        for link in links:
            link.shares = dict.fromkeys(intake.places(link.queue), 1.0)
        self._uniform = len(intake.places()) == 1
        self.mixed = any(len(link.shares) > 1 for link in links)
        """Whether messages of one queue may need several places: else all of them can start, or none."""

    def credit(self, link: QueueLink) -> int:
        """How many messages of *link* there is use for, whatever they are."""
        credit = 0
        for place in link.shares:
            if place is not self._intake.quarantine:
                credit = max(credit, self._slots_to_fill(place))
        if self._gate is not None:
            credit = self._gate.credit(credit)
        if self._batches is not None:
            for place in link.shares:
                if isinstance(place, Collecting):
                    credit = self._batches.credit(credit, self.room(place))
        if len(link.shares) == 1:
            return credit if self._batches is None or all(map(self._wants, link.shares)) else 0
        for place, share in link.shares.items():
            if not self._wants(place):
                return 0  # it is full, or has work at hand for so short a time that the others can wait for it
            # twice what is to be expected: seldom more than there is room for, and that is given back at once
            credit = min(credit, max(1, int(self.room(place) / min(1.0, 2 * max(share, RARE)))))
        return credit

    def partly(self, link: QueueLink) -> bool:
        """Whether some messages of *link* could start now, and others could not."""
        if len(link.shares) == 1:
            return False
        rooms = [self.room(place) > 0 for place in link.shares]
        return any(rooms) and not all(rooms)

    def any_room(self, link: QueueLink) -> bool:
        """Whether messages of *link* could start now."""
        return any(self.room(place) > 0 for place in link.shares)

    def room(self, place: Place) -> int:
        """How many more deliveries may be held for *place*."""
        if place is self._intake.quarantine:
            # one that was parked or lost has left it without an end
            return 0 if place in self._stalled and place.busy else self._intake.quarantine.room()
        if isinstance(place, Collecting):
            return place.batches.room(place.executor, place.executor in self._stalled)
        executor: Executor = place
        waiting = 0 if self._gate is None else self._gate.waiting_for(executor)
        # short tasks are soon done with twice as many as are asked for
        return executor.slots + 2 * self._ahead(executor) - executor.load() - waiting

    def surplus(self, link: QueueLink, taken: Sequence[Delivery]) -> list[Delivery]:
        """Those of *taken* for which there is no place; and learn what *link* brings."""
        if self._uniform and not self._intake.any_suspects and len(link.shares) == 1:
            return []
        counts = self._by_place(taken)
        rooms = {place: self._room_soon(place) for place in counts}
        self._learn(link, counts, len(taken))
        if all(counts[place] <= room for place, room in rooms.items()):
            return []
        over: list[Delivery] = []
        for delivery in taken:
            place = self._intake.place_of(delivery.task, delivery.suspect)
            rooms[place] -= 1
            if rooms[place] < 0:
                over.append(delivery)
        return over

    def _room_soon(self, place: Place) -> int:
        """How many more deliveries can start at *place* soon: short ones are not worth the way back."""
        room = self.room(place)
        if place is self._intake.quarantine or isinstance(place, Collecting) or place in self._stalled:
            return room
        executor: Executor = place
        mean = executor.service_time()
        return room if mean is None else max(room, int(executor.slots * SOON / max(mean, 1e-6)) - executor.load())

    def _by_place(self, taken: Sequence[Delivery]) -> Counter[Place]:
        counts: Counter[Place] = Counter()
        if self._intake.any_suspects:
            counts.update(self._intake.place_of(delivery.task, delivery.suspect) for delivery in taken)
        else:  # there are few tasks, and many messages
            for task, count in Counter(map(_task, taken)).items():
                counts[self._intake.place_of(task, suspect=False)] += count
        return counts

    def affordable(self, link: QueueLink) -> int:
        """How many more large messages of *link* may be held: one at least, unless others wait that have been held."""
        known = self._intake.running()
        waiting = [len(each.data) for one in self._links for each in one.held.values() if each not in known]
        return max(link.sizes.fitting(BUDGET - sum(waiting)), 0 if waiting else 1)

    def waiting(self) -> bool:
        """Whether deliveries wait for a place."""
        return bool(self._waited_for())

    def late(self, now: float) -> list[Place]:
        """Where something has waited for too long. From now on nothing is held ahead there."""
        late: list[Place] = []
        waited_for = self._waited_for()
        for place in waited_for:
            # who waits longest from here is the last one: when it has started, so have all that waited with it
            mark = self._marks.get(place)
            if mark is None or not place.waits(mark[0]):
                self._marks[place] = (place.last_waiting(), now)
            elif now - mark[1] > PATIENCE:
                late.append(place)
        if late or len(self._marks) > len(waited_for):
            self._marks = {place: self._marks[place] for place in waited_for if place not in late}
        if late:
            full = [executor for executor in self._executors if executor.load() >= executor.slots]
            if any(place is self._batches or place is self._gate for place in late):
                self._stalled.update(full)  # that is what they wait for
            self._stalled.update(place for place in late if place is self._intake.quarantine or place in full)
        return late

    def ended(self, batch: Sequence[Ended]) -> None:
        """Outcomes were settled: where something has come to its end, there is hope again."""
        for delivery, outcome, _ in batch if self._stalled else ():
            if not isinstance(outcome.end, Release):
                self._stalled.discard(self._intake.place_of(delivery.task, delivery.suspect))
                if delivery.task is not None:
                    self._stalled.discard(self._intake.executor_of(delivery.task))

    def _slots_to_fill(self, place: Place) -> int:
        executor: Executor = place.executor if isinstance(place, Collecting) else place
        ahead = self._ahead(executor)
        room = executor.slots + ahead - executor.load()
        # below that there is work at hand, and small requests are not worth their call
        return room if room > ahead // 4 else 0

    def _wants(self, place: Place) -> bool:
        if place is self._intake.quarantine or isinstance(place, Collecting):
            return self.room(place) > 0
        return self._slots_to_fill(place) > 0

    def _waited_for(self) -> list[Any]:
        found: list[Any] = [each for each in self._executors if each.load() > each.slots]
        others = (self._batches, self._gate, self._intake.quarantine)
        return found + [each for each in others if each is not None and each.blocked]

    def _ahead(self, executor: Executor) -> int:
        """How many deliveries the executor may hold beyond its slots: many short ones, no long one."""
        mean = executor.service_time()
        if mean is None or executor in self._stalled:
            return 0
        return min(int(executor.slots * AHEAD / max(mean, 1e-6)), self._most_ahead)

    def _learn(self, link: QueueLink, counts: Mapping[Place, int], total: int) -> None:
        shares = link.shares
        link.found_at = time.monotonic()
        for place in {*shares, *counts}:
            seen, known = counts.get(place, 0) / total, shares.get(place)
            shares[place] = seen if known is None or seen > known else known + (seen - known) * min(1.0, 0.01 * total)
        quarantine = self._intake.quarantine
        if shares.get(quarantine, 1.0) < RARE:  # the last suspects came long ago
            del shares[quarantine]
        self.mixed = any(len(link.shares) > 1 for link in self._links)
