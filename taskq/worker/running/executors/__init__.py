"""Where tasks run. Each executor takes deliveries on the event loop's thread and hands back what they came to.

All of them answer to the same small contract, :class:`Executor`; what a cancellation means differs:

* ``coroutines``: the asyncio task is cancelled. A soft time limit, too, is a ``CancelledError`` inside the task, as
  with ``asyncio.timeout``, and its own error outside.
* ``threads``, and ``solo``, which is one thread: Python cannot stop a thread; the task sees ``ctx.cancelled``. Time
  limits are raised inside the thread at its next bytecode, so a call that blocks in C sees them when it returns.
* ``processes``: the child is killed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from taskq.values.delivery import Delivery
from taskq.worker.partition.settling import Outcome

Finished = Callable[[], None]
"""Tells the worker that outcomes were appended to their links; may be called from any thread."""


class Executor(Protocol):
    """A place to run tasks."""

    slots: int
    """How many run at once."""

    def submit(self, deliveries: list[Delivery]) -> None:
        """Run these, in order, as slots come free."""

    def load(self) -> int:
        """How many deliveries it holds, running and waiting."""

    def held(self) -> list[Delivery]:
        """All that it holds, running and waiting."""

    def running(self) -> list[Delivery]:
        """What runs now; may be called from any thread."""

    def service_time(self) -> float | None:
        """Mean seconds one task takes, lately; None before the first."""

    def started_at(self, delivery: Delivery) -> float:
        """``time.monotonic()`` when *delivery* began to run, or a little later; 0 while it has not."""

    def take_waiting(self, keep: int = 0) -> list[Delivery]:
        """Give up what has not started, but for the first *keep*."""

    def last_waiting(self) -> object:
        """The last delivery that has not started; None where all have."""

    def waits(self, delivery: object) -> bool:
        """Whether *delivery* is held here and has not started."""

    def stop_delivery(self, delivery: Delivery) -> None:
        """Stop one delivery whose ``cancelled`` has been set, as far as the executor can."""

    def close(self) -> None:
        """Run nothing more. What runs is left to end with the process."""


class ServiceTime:
    """A moving mean of how long tasks take, cheap enough for every task."""

    __slots__ = ("mean",)

    def __init__(self) -> None:
        self.mean: float | None = None

    def add(self, total: float, count: int = 1) -> None:
        """*count* tasks took *total* seconds together."""
        sample = total / count
        mean = self.mean
        if mean is None:
            self.mean = sample
        else:
            # a slow task counts at once, fast ones win trust slowly: holding too much is worse than too little
            self.mean = mean + (sample - mean) * (0.5 if sample > mean else min(0.05 * count, 0.5))


def taken_from(waiting: deque[Delivery], keep: int) -> list[Delivery]:
    """Take the last of *waiting* out, but for the first *keep*; in their order."""
    return [waiting.pop() for _ in range(len(waiting) - keep)][::-1]


def is_waiting(delivery: object) -> bool:
    """Whether *delivery* is ours, and has not started."""
    return isinstance(delivery, Delivery) and not delivery.started and delivery.key in delivery.link.held


def finish(delivery: Delivery, outcome: Outcome, runtime: float) -> None:
    """Hand an outcome to its queue's link."""
    delivery.link.ended.append((delivery, outcome, runtime))
