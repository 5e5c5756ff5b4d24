"""The gate before tasks with a rate limit: a message starts when it has a slot and a permit, and is parked without.

A permit is asked for just before the start, for as many messages as there are free slots, and says by when the message
must have started. Afterwards the worker says when that really was: from then on the permit counts from there. So the
limit holds for starts, not for permits, and an answer that was slow costs nothing but time.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from taskq import failpoints
from taskq.broker import scripts
from taskq.broker.calls import Call
from taskq.broker.scripts import GUARD_MS
from taskq.errors import BrokerError
from taskq.values.delivery import Delivery
from taskq.worker.partition.partition import QueueLink
from taskq.worker.partition.settling import Outcome, released
from taskq.worker.running.executors import Executor, finish

logger = logging.getLogger("taskq.worker")

PAGE = 300
"""Messages in one call."""
LOOK_EVERY = 0.02
"""Seconds between looks at whether messages with a permit have started."""
RETRY_EVERY = 0.1
"""Seconds between tries while Redis cannot be reached."""
SLACK, MOST_SLACK_MS = 0.02, 50.0
"""What is added to a start that was measured: between the clock and the task's first line, a thread may be held up. A
share of the window, and at most so many ms."""


@dataclass(slots=True)
class _Permit:
    """A permit whose message may not have started yet."""

    delivery: Delivery
    given_ms: float
    """When it was given, on Redis's clock."""
    asked: float
    """``time.monotonic()`` before it was asked for."""

    @property
    def name(self) -> bytes:
        """As it is kept in Redis."""
        return b"s%b:%b" % (self.delivery.message.task_id.encode(), self.delivery.entry)

    def counts_from(self, started: float) -> float:
        """Redis's ms from which the permit counts when its message started at *started*: not before that."""
        window_ms: int = self.delivery.task.settings.rate_limit.window_ms
        slack = min(window_ms * SLACK, MOST_SLACK_MS)
        return self.given_ms + (started - self.asked) * 1000 + slack


class Gate:
    """The rate limits of one worker process. Everything here happens on the event loop's thread.

    Args:
        executor_of: where a task runs.
        admit: the outcome of a delivery that must not start at all; None when it may.
        start: takes deliveries that have their permit.
    """

    def __init__(
        self,
        executor_of: Callable[[Any], Executor],
        admit: Callable[[Delivery], Outcome | None],
        start: Callable[[Sequence[Delivery]], None],
    ) -> None:
        self._executor_of = executor_of
        self._admit = admit
        self._start = start
        self.gone: Callable[[Delivery], None]
        """Told of a delivery that was parked, and is not ours any more. This and the following: set by the fetcher."""
        self.run_call: Callable[[Call], Awaitable[Any]]
        self.lease_lost: Callable[[bytes], None]
        """Told when a script says so, with the consumer's name."""
        self.wake: Callable[[], None]
        """Has the worker look what there is to do."""
        self._waiting: dict[tuple[QueueLink, str], deque[Delivery]] = {}
        self._asking: set[Delivery] = set()
        self._given: list[_Permit] = []
        self._back: list[tuple[QueueLink, str, bytes]] = []
        self._parked_lately = 0
        self._woken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.draining = False
        """Whether to give back at once whatever comes."""

    def start_service(self) -> None:
        """Begin."""
        self._tasks = [asyncio.create_task(self._ask_loop()), asyncio.create_task(self._tell_loop())]

    async def stop(self) -> None:
        """End; permits that nobody used count for a while."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def take(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Take those that need a permit; the others are returned."""
        others: list[Delivery] = []
        self._parked_lately = 0
        for delivery in deliveries:
            if delivery.task.settings.rate_limit is None or delivery.permit is not None:
                others.append(delivery)
            elif self.draining:
                finish(delivery, released(delivery), 0.0)
            elif not self._refused(delivery):
                self._waiting.setdefault((delivery.link, delivery.task.name), deque()).append(delivery)
                self._woken.set()
        return others

    @property
    def blocked(self) -> bool:
        """Whether messages wait for a slot or an answer."""
        return bool(self._waiting)

    def look(self) -> None:
        """A slot may have come free."""
        self._woken.set()

    def credit(self, credit: int) -> int:
        """How many deliveries there is use for, where without rate limits it would be *credit*."""
        if self._parked_lately:  # they go aside as quickly as they come: what is behind them must not wait
            return max(credit, 2 * self._parked_lately)
        return max(credit - sum(map(len, self._waiting.values())), 0)

    def held(self) -> list[Delivery]:
        """What waits for a permit, or is being asked for."""
        return [delivery for queue in self._waiting.values() for delivery in queue]

    def waiting_for(self, executor: Executor) -> int:
        """How many messages wait here for a slot of *executor*."""
        return sum(len(queue) for queue in self._waiting.values() if self._executor_of(queue[0].task) is executor)

    def last_waiting(self) -> object:
        """The last message that came."""
        return next((queue[-1] for queue in reversed(self._waiting.values())), None)

    def waits(self, delivery: object) -> bool:
        """Whether *delivery* still waits."""
        return any(delivery in queue for queue in self._waiting.values())

    def take_waiting(self, only: QueueLink | None = None) -> list[Delivery]:
        """Give up what waits for a slot; what is being asked for stays."""
        given_up: list[Delivery] = []
        for key, queue in list(self._waiting.items()):
            if only is None or key[0] is only:
                given_up += [delivery for delivery in queue if delivery not in self._asking]
                self._keep(key, [delivery for delivery in queue if delivery in self._asking])
        return given_up

    def clear(self) -> None:
        """Forget everything: it belongs to others now."""
        self._waiting.clear()

    def _keep(self, key: tuple[QueueLink, str], deliveries: Iterable[Delivery]) -> None:
        self._waiting[key] = deque(deliveries)
        if not self._waiting[key]:
            del self._waiting[key]

    async def _ask_loop(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            for link, name in list(self._waiting):
                try:
                    await self._ask(link, name)
                except BrokerError as error:
                    logger.debug("rate limit of %s: %s", name, error)
                    await asyncio.sleep(RETRY_EVERY)
                    self._woken.set()
                except Exception:  # a reply that nothing of ours explains must not end this for good
                    logger.exception("the rate limit of %s failed", name)
                    await asyncio.sleep(RETRY_EVERY)
                    self._woken.set()

    async def _ask(self, link: QueueLink, name: str) -> None:
        """Ask for permits for as many messages as there are free slots; the others may be parked."""
        page = self._page((link, name))
        if not page:
            return
        task = page[0].task
        executor = self._executor_of(task)
        free = executor.slots - executor.load()
        if free <= 0:
            return
        consumer, asked = link.consumer, time.monotonic()
        numbers = {stream: n for n, stream in enumerate(link.streams, 1)}
        triples: list[Any] = []
        for delivery in page:
            triples += (numbers[delivery.stream], delivery.entry, delivery.message.task_id)
        call = scripts.permit(link.keys, link.streams, consumer, name, task.settings.rate_limit, free, triples)
        self._asking.update(page)
        try:
            if failpoints.ARMED:
                failpoints.hit("permit.send")
            status, *rest = await self.run_call(call)
            if failpoints.ARMED:
                failpoints.hit("permit.answered")
        finally:
            self._asking.difference_update(page)
        if status == 0:
            self.lease_lost(consumer)
        if link.consumer != consumer:
            return  # they belong to others now
        self._answered((link, name), page, rest[1:], float(rest[0]), asked)

    def _page(self, key: tuple[QueueLink, str]) -> list[Delivery]:
        """The first that wait and may still start; the others have their outcome."""
        queue = self._waiting.get(key, deque())
        page: list[Delivery] = []
        for delivery in list(itertools.islice(queue, PAGE)):
            if self._refused(delivery):
                queue.remove(delivery)
            else:
                page.append(delivery)
        self._keep(key, queue)
        return page

    def _refused(self, delivery: Delivery) -> bool:
        """Whether *delivery* must not start at all; then it has its outcome, and a permit it may hold is given back."""
        refused = self._admit(delivery)
        if refused is None:
            return False
        finish(delivery, refused, 0.0)
        self._back.append((delivery.link, delivery.task.name, b"g" + delivery.message.task_id.encode()))
        self.wake()
        return True

    def _answered(
        self, key: tuple[QueueLink, str], page: Sequence[Delivery], answers: Sequence[int], now_ms: float, asked: float
    ) -> None:
        said = dict(zip(page, answers, strict=True))
        self._keep(key, [delivery for delivery in self._waiting.get(key, ()) if said.get(delivery, 2) == 2])
        starting: list[Delivery] = []
        for delivery, answer in said.items():
            if answer == 1:
                delivery.permit = asked + GUARD_MS / 1000
                self._given.append(_Permit(delivery, now_ms, asked))
                starting.append(delivery)
            elif answer == 0:
                key[0].held.pop(delivery.key, None)
                self.gone(delivery)
        self._parked_lately = len(page) - len(starting) - sum(answer == 2 for answer in answers)
        if starting:
            self._start(starting)
        if key in self._waiting:
            self._woken.set()
        self.wake()

    async def _tell_loop(self) -> None:
        """Tell Redis when messages have started."""
        while True:
            await asyncio.sleep(LOOK_EVERY if self._given or self._back else 5 * LOOK_EVERY)
            if self._given or self._back:
                try:
                    await self._tell()
                except BrokerError as error:
                    logger.debug("rate limits: %s", error)
                    await asyncio.sleep(RETRY_EVERY)
                except Exception:  # as above
                    logger.exception("telling what has started failed")
                    await asyncio.sleep(RETRY_EVERY)

    async def _tell(self) -> None:
        open_: list[_Permit] = []
        told: dict[tuple[QueueLink, str], list[bytes | str]] = {}
        given, back = list(self._given), list(self._back)
        for permit in given:
            delivery = permit.delivery
            started = self._executor_of(delivery.task).started_at(delivery)
            link = delivery.link
            if started:
                score = f"{permit.counts_from(started):.3f}"
            elif link.held.get(delivery.key) is delivery:
                open_.append(permit)
                continue
            else:  # it was handed back
                score = ""
            told.setdefault((link, delivery.task.name), []).extend((permit.name, score))
        for link, name, grant in back:
            told.setdefault((link, name), []).extend((grant, ""))
        for (link, name), pairs in told.items():
            await self.run_call(scripts.started(link.keys, name, pairs))
        # only now: after an error all of it is told again, which changes nothing
        self._given = open_ + self._given[len(given) :]
        self._back = self._back[len(back) :]
