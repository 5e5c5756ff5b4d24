"""Sync tasks in threads.

Work waits in one deque that every thread pops from: ``deque.popleft`` is atomic, so no lock is taken per task, no
thread sits on a private share while others idle, and the loop hands over a whole batch in one step.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache, partial

from taskq.errors import TaskqError
from taskq.values.delivery import HANDED_BACK, Delivery
from taskq.worker.running.executors import Finished, ServiceTime, finish, is_waiting
from taskq.worker.running.limits import KINDS, TimeLimits, text_of_limit, within_limits
from taskq.worker.running.runner import Runner

logger = logging.getLogger("taskq.worker")

SHORT = 0.0005
"""Seconds: tasks with a mean below this are short."""


STALL = 0.005
"""Seconds without any task ending after which more threads are woken, however short tasks were before."""


class ThreadExecutor:
    """A fixed set of threads, started when first needed.

    Args:
        slots: how many threads at most.
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
        self._work: deque[Delivery] = deque()
        self._tokens: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._running: dict[int, Delivery] = {}
        self._open: dict[int, Delivery] = {}
        """Threads that are inside of a task's function which a time limit may strike."""
        self._idle = 0
        self._idle_lock = threading.Lock()
        self._strike_lock = threading.Lock()
        self._times = ServiceTime()
        self._ended = 0
        self._watching = False
        self._closed = False
        self._short = False
        """Whether a thread could not be started."""

    def submit(self, deliveries: list[Delivery]) -> None:
        self._work.extend(deliveries)
        mean = self._times.mean
        if mean is None or mean > SHORT:
            self._wake(len(deliveries))
        elif self._idle == len(self._threads):
            # short tasks: one awake thread does more than several that fight over the interpreter lock
            self._wake(1)
        if not self._watching:
            self._watching = True
            self._loop.call_later(STALL, self._watch, self._ended)

    def load(self) -> int:
        return len(self._work) + len(self._running)

    def held(self) -> list[Delivery]:
        return [*self._work.copy(), *self.running()]

    def running(self) -> list[Delivery]:
        return list(self._running.values())

    def service_time(self) -> float | None:
        return self._times.mean

    def started_at(self, delivery: Delivery) -> float:
        return delivery.started

    def take_waiting(self, keep: int = 0) -> list[Delivery]:
        taken: list[Delivery] = []
        while len(self._work) > keep:
            try:
                taken.append(self._work.pop())
            except IndexError:  # a thread was quicker
                break
        return taken[::-1]

    def last_waiting(self) -> object:
        try:
            return self._work[-1]
        except IndexError:
            return None

    def waits(self, delivery: object) -> bool:
        return is_waiting(delivery)

    def stop_delivery(self, delivery: Delivery) -> None:
        """A thread cannot be stopped: the task sees ``ctx.cancelled``; only a time limit is raised inside it."""
        if delivery.cancelled not in KINDS:
            return
        why, delivery.cancelled = delivery.cancelled, ""
        kind = _raised(why, text_of_limit(delivery, why))
        with self._strike_lock:
            for ident, running in self._open.items():
                if running is delivery:
                    _raise_in(ident, kind)

    def close(self) -> None:
        self._closed = True
        self._work.clear()
        for delivery in list(self._running.values()):
            delivery.cancelled = delivery.cancelled or HANDED_BACK
        for _ in self._threads:
            self._tokens.put(False)

    def _wake(self, wanted: int) -> None:
        with self._idle_lock:
            woken = min(wanted, self._idle)
            self._idle -= woken
        for _ in range(woken):
            self._tokens.put(True)
        # a thread that is awake finds the work by itself; a new one is only for what they cannot take
        for _ in range(min(wanted - woken, self.slots - len(self._threads))):
            thread = threading.Thread(target=self._serve, name=f"taskq-{len(self._threads)}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the system gives no more; it is tried again while work waits
                if not self._short:
                    logger.error("cannot start thread %d of %d: %s", len(self._threads) + 1, self.slots, error)
                self._short = True
                return
            self._threads.append(thread)

    def _watch(self, ended_before: int) -> None:
        if not self._work or self._closed:
            self._watching = False
            return
        if self._ended == ended_before:
            self._wake(len(self._work))
        self._loop.call_later(STALL, self._watch, self._ended)

    def _serve(self) -> None:
        ident = threading.get_ident()
        work, running = self._work, self._running
        delivery: Delivery | None
        while True:
            try:
                delivery = work.popleft()
            except IndexError:
                delivery = None  # an idle thread keeps no arguments
                if self._rest():
                    continue
                return
            running[ident] = delivery
            try:
                self._run(delivery, ident)
            except BaseException:  # a bug of ours: the thread lives on
                logger.exception("running %s failed outside the task", delivery.message.task)
                running.pop(ident, None)

    def _rest(self) -> bool:
        """Sleep until there is work; False when the executor was closed."""
        with self._idle_lock:
            self._idle += 1
        # work that came after the failed pop and before this registration had nobody to wake for it
        if self._work:
            with self._idle_lock:
                if self._idle > 0:
                    self._idle -= 1
                    return True
        return self._tokens.get()

    def _run(self, delivery: Delivery, ident: int) -> None:
        started = delivery.started = time.monotonic()
        runner = self._runner
        if delivery.limited:
            within = partial(within_limits, *self._doors(delivery, ident))
            outcome = runner.context.copy().run(runner.call, delivery, within)
        else:
            outcome = runner.context.copy().run(runner.call, delivery)
        took = time.monotonic() - started
        self._times.add(took)
        self._ended += 1
        # the slot is free before anybody is told: who is told counts the free slots, and is told only once
        self._running.pop(ident, None)
        finish(delivery, outcome, took)
        self._finished()

    def _doors(self, delivery: Delivery, ident: int) -> tuple[Callable[[], None], Callable[[], None]]:
        """What opens thread *ident* to the time limits of *delivery*, and what shuts it."""

        def open_() -> None:
            self._open[ident] = delivery
            self._limits.started(delivery, self)

        def shut() -> None:
            with self._strike_lock:
                self._open.pop(ident, None)
                _raise_in(ident, None)
            self._limits.ended(delivery)

        return open_, shut


@lru_cache(64)
def _raised(why: str, text: str) -> type[TaskqError]:
    """The error of *why* as a class whose instances say *text*: a class, for an instance cannot be raised elsewhere."""
    kind = KINDS[why]

    def init(self: TaskqError, *args: object) -> None:
        kind.__init__(self, *(args or (text,)))

    def reduced(self: TaskqError) -> tuple[object, ...]:
        return kind, self.args

    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), {**names, "__init__": init, "__reduce__": reduced})


def _raise_in(ident: int, kind: type[BaseException] | None) -> None:
    """Have thread *ident* raise *kind* at its next bytecode; None takes back what was not raised yet."""
    exception = None if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), exception)
