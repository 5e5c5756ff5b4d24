"""Sync tasks one at a time on the event loop's own thread: for debugging, and for code that must not see threads.

The lease is kept by its own thread, so a task that holds the loop for long keeps it; but nothing is settled,
fetched or cancelled meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

from taskq.delivery import Delivery
from taskq.worker.executors import Finished, ServiceTime, finish, taken_from
from taskq.worker.runner import Runner

SLICE = 0.002
"""Seconds of tasks between two turns of the event loop."""


class SoloExecutor:
    """One slot, on the loop's thread.

    Args:
        runner: turns deliveries into outcomes.
        finished: tells the worker.
    """

    slots = 1

    def __init__(self, runner: Runner, finished: Finished) -> None:
        self._runner = runner
        self._finished = finished
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Delivery] = deque()
        self._times = ServiceTime()
        self._scheduled = False
        self._current: Delivery | None = None

    def submit(self, deliveries: list[Delivery]) -> None:
        self._waiting.extend(deliveries)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def load(self) -> int:
        return len(self._waiting)

    def running(self) -> list[Delivery]:
        current = self._current
        return [] if current is None else [current]

    def service_time(self) -> float | None:
        return self._times.mean

    def started_at(self, delivery: Delivery) -> float:
        return delivery.started

    def take_waiting(self, keep: int = 0) -> list[Delivery]:
        return taken_from(self._waiting, keep)

    def stop_delivery(self, delivery: Delivery) -> None:
        """Nothing can: the loop only gets its turn when the task has ended."""

    def close(self) -> None:
        self._waiting.clear()

    def _turn(self) -> None:
        end = time.monotonic() + SLICE
        while self._waiting:
            delivery = self._current = self._waiting.popleft()
            started = delivery.started = time.monotonic()
            outcome = self._runner.call(delivery)
            now = time.monotonic()
            self._times.add(now - started)
            finish(delivery, outcome, now - started)
            if now > end:
                break
        self._current = None
        self._scheduled = bool(self._waiting)
        if self._waiting:
            # by way of one more round of the loop: what came while a task ran, such as a revocation, is heard first
            self._loop.call_soon(self._loop.call_soon, self._turn)
        self._finished()
