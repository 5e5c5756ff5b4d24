"""Async tasks as asyncio tasks on the worker's event loop."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from taskq.values.delivery import HANDED_BACK, Delivery
from taskq.worker.partition.settling import Outcome
from taskq.worker.running.executors import Finished, ServiceTime, finish, is_waiting, taken_from
from taskq.worker.running.limits import TimeLimits
from taskq.worker.running.runner import Runner

SWEEP = 1.0
"""Seconds between two looks for tasks that were cancelled before they had begun: a task may cancel all it finds."""


class CoroutineExecutor:
    """Up to *slots* coroutines at once; the rest waits its turn.

    Args:
        slots: how many at once.
        runner: turns deliveries into outcomes.
        finished: tells the worker.
        limits: arms the timers of deliveries that have one.
    """

    def __init__(self, slots: int, runner: Runner, finished: Finished, limits: TimeLimits) -> None:
        self.slots = slots
        self._runner = runner
        self._finished = finished
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Delivery] = deque()
        self._running: dict[Delivery, asyncio.Task[None]] = {}
        self._times = ServiceTime()
        self._sweeping = False

    def submit(self, deliveries: list[Delivery]) -> None:
        self._waiting.extend(deliveries)
        self._fill()

    def load(self) -> int:
        return len(self._waiting) + len(self._running)

    def held(self) -> list[Delivery]:
        return [*self._waiting, *(delivery for delivery, task in self._running.items() if not task.done())]

    def running(self) -> list[Delivery]:
        return list(self._running)

    def service_time(self) -> float | None:
        return self._times.mean

    def started_at(self, delivery: Delivery) -> float:
        return delivery.started

    def take_waiting(self, keep: int = 0) -> list[Delivery]:
        return taken_from(self._waiting, keep)

    def last_waiting(self) -> object:
        return self._waiting[-1] if self._waiting else None

    def waits(self, delivery: object) -> bool:
        return is_waiting(delivery)

    def stop_delivery(self, delivery: Delivery) -> None:
        """Cancel it where it waits. What has not begun is left to begin: the runner refuses what is cancelled."""
        task = self._running.get(delivery)
        if task is not None and delivery.started:
            task.cancel()

    def close(self) -> None:
        self._waiting.clear()
        for delivery, task in self._running.items():
            delivery.cancelled = delivery.cancelled or HANDED_BACK
            task.cancel()

    def _fill(self) -> None:
        waiting, running = self._waiting, self._running
        while waiting and len(running) < self.slots:
            delivery = waiting[0]
            task = self._loop.create_task(self._run(delivery), context=self._runner.context.copy())
            waiting.popleft()
            running[delivery] = task
        if not self._sweeping and running:
            self._sweeping = True
            self._loop.call_later(SWEEP, self._sweep)

    async def _run(self, delivery: Delivery) -> None:
        delivery.started = time.monotonic()
        if delivery.limited:
            self._limits.started(delivery, self)
        self._ended(delivery, await self._runner.acall(delivery))

    def _ended(self, delivery: Delivery, outcome: Outcome) -> None:
        del self._running[delivery]
        if delivery.limited:
            self._limits.ended(delivery)
        took = time.monotonic() - delivery.started
        self._times.add(took)
        finish(delivery, outcome, took)
        if self._waiting:
            self._fill()
        self._finished()

    def _sweep(self) -> None:
        """Take back the slots of tasks that somebody cancelled before their first line, which could not say so."""
        for delivery, task in list(self._running.items()):
            if task.done():
                delivery.started = delivery.started or time.monotonic()
                self._ended(delivery, self._runner.failed(delivery, asyncio.CancelledError()))
        self._sweeping = bool(self._running)
        if self._sweeping:
            self._loop.call_later(SWEEP, self._sweep)
