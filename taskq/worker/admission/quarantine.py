"""Suspects: messages that were in the hands of a worker that died. They run apart, and on the record.

When a whole worker process dies, nobody knows which of its messages killed it. All become suspects, none is charged.
A suspect runs in a child process of its own: when that dies, it is known what ran, and nobody else comes to harm.
Before it runs, a mark in Redis says so: if the worker dies all the same, recovery charges those that were marked and
no other. One that has been charged runs alone among suspects.

A worker that does not know where its app is imported from cannot start such children, and runs suspects itself; and so
does every worker with calls of batch tasks, which run in company. Suspects that nothing is known against then start a
moment apart, which is enough to tell most killers from their neighbours and keeps recovery quick.

Either way a message that kills every process it meets is found after ``max_crashes``, and its neighbours are let go.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from taskq import failpoints
from taskq.broker import scripts
from taskq.broker.calls import Call
from taskq.errors import BrokerError
from taskq.values.delivery import Delivery
from taskq.worker.running.executors.isolation import Isolation

logger = logging.getLogger("taskq.worker")

MOST = 8
"""Suspects held at once where they run in the worker itself."""
RETRY_EVERY = 0.5
"""Seconds between tries to mark a suspect while Redis cannot be reached."""


STAGGER = 0.05
"""Seconds between the starts of two suspects that were never charged: most killers kill at once."""


class Quarantine:
    """Lets suspects run apart from each other.

    Args:
        run_call: runs a script on the worker's connection.
        run: hands a delivery to its executor.
        isolation: where suspects run, if there is such a place.
    """

    def __init__(
        self,
        run_call: Callable[[Call], Awaitable[object]],
        run: Callable[[list[Delivery]], None],
        isolation: Isolation | None = None,
    ) -> None:
        self._isolation = isolation
        if isolation is not None:
            isolation.unusable = self._take_back
        self._run_call = run_call
        self._run = run
        self._waiting: deque[Delivery] = deque()
        self._running: dict[Delivery, asyncio.Task[None]] = {}
        self._pause: asyncio.TimerHandle | None = None

    def add(self, suspects: Sequence[Delivery]) -> None:
        """Run these when their turn comes; the charged ones last."""
        self._waiting.extend(sorted(suspects, key=lambda suspect: suspect.crashes > 0))
        self._next()

    def ended(self, delivery: Delivery) -> None:
        """*delivery* has been settled, or is no longer ours."""
        if self._running.pop(delivery, None) is not None:
            if self._isolation is not None:
                self._isolation.booked.discard(delivery)
            self._next()

    def held(self) -> list[Delivery]:
        """What waits for its turn, or is being marked."""
        return [*self._waiting, *(suspect for suspect, marking in self._running.items() if not marking.done())]

    @property
    def blocked(self) -> bool:
        """Whether suspects wait for their turn."""
        return bool(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether there are suspects."""
        return bool(self._waiting or self._running)

    def room(self) -> int:
        """How many more suspects may be held."""
        isolation = self._isolation
        most = isolation.slots if isolation is not None and isolation.usable else MOST
        return most - len(self._waiting) - len(self._running)

    def last_waiting(self) -> object:
        """The last one that waits."""
        return self._waiting[-1] if self._waiting else None

    def waits(self, suspect: object) -> bool:
        """Whether *suspect* still waits."""
        return suspect in self._waiting

    def take_waiting(self) -> list[Delivery]:
        """Give up what has not started."""
        waiting = list(self._waiting)
        self._waiting.clear()
        for delivery in self._isolation.take_waiting() if self._isolation is not None else ():
            self._running.pop(delivery, None)
            waiting.append(delivery)
        return waiting

    def clear(self) -> None:
        """Forget everything: it belongs to others now."""
        self.take_waiting()
        self._running.clear()
        if self._isolation is not None:
            self._isolation.booked.clear()

    def _next(self) -> None:
        while self._waiting and self._may_start(self._waiting[0]):
            suspect = self._waiting.popleft()
            self._running[suspect] = asyncio.create_task(self._mark_and_run(suspect))
            if self._is_isolated(suspect):
                continue
            if self._pause is not None:
                self._pause.cancel()
            self._pause = asyncio.get_running_loop().call_later(STAGGER, self._pause_over)

    def _may_start(self, suspect: Delivery) -> bool:
        if not self._running:
            return True
        alone = suspect.crashes > 0 or any(running.crashes > 0 for running in self._running)
        if alone:
            return False
        return self._has_room(suspect)

    def _has_room(self, suspect: Delivery) -> bool:
        if self._isolation is None or not self._is_isolated(suspect):
            return self._pause is None
        return len(self._running) < self._isolation.slots

    def _is_isolated(self, suspect: Delivery) -> bool:
        """Whether it runs in a process of its own; calls of batch tasks run in company."""
        return self._isolation is not None and self._isolation.usable and suspect.task.settings.batch is None

    def _take_back(self, suspects: Sequence[Delivery]) -> None:
        """There are no processes for *suspects*."""
        for delivery in suspects:
            self._running.pop(delivery, None)
        self.add(suspects)

    def _pause_over(self) -> None:
        self._pause = None
        self._next()

    async def _mark_and_run(self, delivery: Delivery) -> None:
        link = delivery.link
        isolated = self._is_isolated(delivery)
        call = scripts.mark(link.keys, delivery.stream, link.consumer, delivery.entry, isolated)
        while delivery in self._running:
            if failpoints.ARMED:
                failpoints.hit("suspect.mark")
            try:
                marked = await self._run_call(call)
            except BrokerError as error:
                logger.debug("cannot mark a suspect: %s", error)
                await asyncio.sleep(RETRY_EVERY)
                continue
            except Exception:  # a reply that nothing of ours explains must not leave it here for ever
                logger.exception("cannot mark a suspect")
                await asyncio.sleep(RETRY_EVERY)
                continue
            if failpoints.ARMED:
                failpoints.hit("suspect.marked")
            if marked and delivery in self._running:
                if isolated and self._isolation is not None:
                    self._isolation.booked.add(delivery)
                self._run([delivery])
            else:  # lost meanwhile; whoever recovers it has it
                self.ended(delivery)
            return
