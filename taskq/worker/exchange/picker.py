"""Picks from a queue what can start, while there is no place for other messages of it.

Redis hands a stream's entries out in their order, and nobody knows what comes. So a script looks at the next entries,
takes those that there is a place for and lets the others keep their order (``lua/pick.lua``). It is asked again and
again, more and more seldom, as long as one place is full and another one is not: what it costs then is a few
microseconds, for it looks at nothing that it has seen.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from taskq import failpoints
from taskq.broker import scripts
from taskq.broker.calls import Arg
from taskq.worker.admission.intake import Intake, Rows
from taskq.worker.exchange.credit import Demand
from taskq.worker.partition.connection import WorkerConnection
from taskq.worker.partition.partition import Place, QueueLink

SOON, LATER = 0.002, 0.02
"""Seconds between two looks at a queue in which nothing was found: at first, and at most."""
ANEW = 1.0
"""Seconds after which also what seems unchanged is looked at."""
UNKNOWN = 16
"""Messages taken at once whose task this worker does not know: they do not run here, and go back with a delay."""


class Picker:
    """Picks for one worker process.

    Args:
        connection: of the worker.
        intake: knows the place that a message needs.
        demand: knows how much room there is.
        accept: takes what was picked of a queue; the flag: ids were revoked.
        lease_lost: told the name whose lease Redis does not know.
        pause: told whether a queue is paused.
    """

    def __init__(
        self,
        connection: WorkerConnection,
        intake: Intake,
        demand: Demand,
        accept: Callable[[QueueLink, Rows, bool], Awaitable[None]],
        lease_lost: Callable[[bytes], None],
        pause: Callable[[QueueLink, bool], object],
    ) -> None:
        self._connection = connection
        self._intake = intake
        self._demand = demand
        self._accept = accept
        self._lease_lost = lease_lost
        self._pause = pause
        self._places: list[Place] = []
        self._names: list[Arg] = []
        for name, task in intake.tasks().items():
            own, of_suspect = (self._number(intake.place_of(task, suspect)) for suspect in (False, True))
            self._names += (name, own, of_suspect)

    def due_in(self, link: QueueLink) -> float:
        """Seconds until the next look."""
        if link.looked_at <= link.found_at:
            return 0.0
        pause = min(max((link.looked_at - link.found_at) / 8, SOON), LATER)
        return max(link.looked_at + pause - time.monotonic(), 0.0)

    async def pick(self, link: QueueLink, most: int) -> None:
        """Take what can start of *link*, at most *most* messages for each place.

        Raises:
            BrokerError: Redis cannot be reached, or refuses.
        """
        streams, consumer, now = link.readable, link.consumer, time.monotonic()
        rooms = [min(UNKNOWN, most), *(max(0, min(self._demand.room(place), most)) for place in self._places)]
        before = link.picked
        known = before is not None and before[0] == rooms and now - before[1] < ANEW
        call = scripts.pick(link.keys, streams, consumer, before[2] if before and known else b"", rooms, self._names)
        if failpoints.ARMED:
            failpoints.hit("pick.send")
        status, *rest = await self._connection.run_call(call)
        if failpoints.ARMED:
            failpoints.hit("pick.replied")
        if status == 0:
            self._lease_lost(consumer)
            return
        rows, flags, state = rest
        link.looked_at = time.monotonic()
        if rows:
            link.picked, link.found_at = None, link.looked_at
        elif not (before and known and before[2] == state):
            link.picked = (rooms, now, state)
        self._pause(link, bool(flags & 2))
        if rows:
            await self._accept(link, [(streams[number - 1], entries) for number, entries in rows], bool(flags & 1))

    def _number(self, place: object) -> int:
        """The number of *place* for the script: 1 is for what this worker does not know."""
        if place not in self._places:
            self._places.append(place)
        return self._places.index(place) + 2
