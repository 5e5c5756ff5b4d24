"""Time limits: one timer for all runs that have one, so that all others pay nothing, and no run outlives its watch."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from typing import Any

from taskq.errors import SoftTimeLimitExceededError, TaskqError, TimeLimitExceededError
from taskq.values.delivery import Delivery, limits_of
from taskq.worker.running.executors import Executor

SOFT, HARD = "soft time limit", "time limit"
"""Why a delivery is stopped, as in :attr:`Delivery.cancelled`."""
KINDS: dict[str, type[TaskqError]] = {SOFT: SoftTimeLimitExceededError, HARD: TimeLimitExceededError}
_LIMITS = tuple(KINDS.values())


def text_of_limit(delivery: Delivery, why: str) -> str:
    """What the error of a run says that ran into the limit *why*."""
    soft, hard = limits_of(delivery)
    return f"the task ran into its {why} of {(soft if why == SOFT else hard) or 0:.10g} s"


def limit_error(delivery: Delivery, why: str) -> TaskqError:
    """The error of a run that ran into the limit *why*."""
    return KINDS[why](text_of_limit(delivery, why))


_NOTHING = object()


def within_limits(
    open_: Callable[[], object], shut: Callable[[], object], function: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    """Call *function* where a limit is raised between any two instructions of this thread, and keep it inside.

    What the function came to is out of reach of a limit that comes a moment too late: it can neither break the
    recording of an outcome nor hit the thread's next task.

    Args:
        open_: from here on limits may be raised: at most two of them, the soft and the hard one.
        shut: once it has returned, none is raised any more; may be called again after a limit has interrupted it.
        function: is called with the other arguments.
    """
    value: Any = _NOTHING
    error: BaseException | None = None
    # each level takes one exception: the first the function's or a limit, the others a limit that interrupts `shut`
    try:
        try:
            try:
                open_()
                value = function(*args, **kwargs)
            except BaseException as raised:
                error = raised
            shut()
        except _LIMITS as late:
            error = error if error is not None else late
            shut()
    except _LIMITS as late:
        error = error if error is not None else late
        shut()
    if value is not _NOTHING:
        return value
    assert error is not None
    try:
        raise error
    finally:
        del error  # its traceback has this frame: without this, all that the run held would wait for the collector


class TimeLimits:
    """Watches the runs that have a limit, and has their executor stop them.

    Runs begin and end on any thread, for the cost of a dictionary's entry: there is one timer for all of them, set to
    the first deadline, and a run that has ended leaves nothing behind.

    Args:
        loop: the worker's event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._runs: dict[Delivery, tuple[Executor, dict[str, float]]] = {}
        self._next = math.inf
        """``time.monotonic()`` when the timer strikes."""
        self._timer: asyncio.TimerHandle | None = None

    def started(self, delivery: Delivery, executor: Executor) -> None:
        """*delivery* begins to run now; from any thread."""
        now = time.monotonic()
        limits = zip((SOFT, HARD), limits_of(delivery), strict=True)
        deadlines = {why: now + limit for why, limit in limits if limit is not None}
        # first noted, then the timer is looked at: whichever thread comes second sees what the other one has done
        self._runs[delivery] = (executor, deadlines)
        if min(deadlines.values(), default=math.inf) < self._next:
            with contextlib.suppress(RuntimeError):  # a thread that has outlived its worker's loop
                self._loop.call_soon_threadsafe(self._look)

    def ended(self, delivery: Delivery) -> None:
        """*delivery* runs no more; from any thread, as often as it likes."""
        self._runs.pop(delivery, None)

    def _look(self) -> None:
        """Stop what has run into a limit, and set the timer for the next."""
        self._next = math.inf
        now, following = time.monotonic(), math.inf
        for delivery, (executor, deadlines) in self._runs.copy().items():
            for why in [why for why, deadline in deadlines.items() if deadline <= now]:
                del deadlines[why]
                self._strike(delivery, executor, why)
            following = min(following, *deadlines.values(), math.inf)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._next = following
        if following < math.inf:
            self._timer = self._loop.call_later(max(following - time.monotonic(), 0.0), self._look)

    def _strike(self, delivery: Delivery, executor: Executor, why: str) -> None:
        if delivery.cancelled in ("", SOFT):  # one that was ignored stops no other
            delivery.cancelled = why
            executor.stop_delivery(delivery)
