"""When a failed task runs again: which errors, how often, after how long.

A :class:`RetryPolicy` is a plain value. It decides and does nothing else: the wait happens in Redis, not in
a worker.

The wait before retry *n* (1, 2, 3 ...) is the "full jitter" of Marc Brooker, "Exponential Backoff And
Jitter", AWS Architecture Blog, 2015::

    exponential = min(retry_backoff_max, retry_backoff * 2 ** (n - 1))
    wait        = random between 0 and exponential      # or exponential itself, without retry_jitter

tenacity's ``wait_*``, ``stop_*`` and ``retry_if_*`` objects may take the place of these numbers. They are the
user's code, so they are not trusted: one that raises, or answers what is not an answer, is logged, and the plain
option that it replaced decides instead (``retry_backoff`` for ``wait``, ``max_retries`` for ``stop``,
``autoretry_for`` for ``retry``).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

from taskq.errors import ConfigError, Retry, UnknownOptionError
from taskq.values.checks import check_flag, shown
from taskq.values.durations import seconds
from taskq.values.functions import is_async

if TYPE_CHECKING:
    from tenacity import RetryCallState

LONGEST_WAIT: Final = 366 * 86400.0
"""Seconds. No wait is longer, whatever the policy says; tenacity's own maximum is 146 billion years."""

MOST_RETRIES: Final = 10**9
_LARGEST_EXPONENT: Final = 1000
"""``2.0 ** 1024`` overflows, and every maximum is reached long before."""

_logger = logging.getLogger("taskq.retry")


class Unset(Enum):
    """The type of :data:`UNSET`."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET
"""Stands for "the policy's own value" where ``None`` already means "no limit"."""

MaxRetries: TypeAlias = int | Literal[Unset.UNSET] | None
ExceptionTypes: TypeAlias = tuple[type[BaseException], ...]
Wait: TypeAlias = Callable[["RetryCallState"], float]
Condition: TypeAlias = Callable[["RetryCallState"], bool]
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Which failures are retried, how often and after how long.

    Nothing is checked here: :meth:`build` makes one from what a user wrote.
    """

    max_retries: int | None = 3
    """Retries after the first attempt; 0: none, ``None``: no limit."""
    retry_backoff: float = 1.0
    """Seconds before the first retry; doubles each time. 0: no wait."""
    retry_backoff_max: float = 600.0
    """Seconds that the doubling never exceeds."""
    retry_jitter: bool = True
    """Wait a random part of the exponential instead of all of it."""
    autoretry_for: ExceptionTypes = (Exception,)
    dont_autoretry_for: ExceptionTypes = ()
    """Never retried, even if ``autoretry_for`` or ``retry`` would."""
    wait: Wait | None = None
    """A tenacity wait in place of ``retry_backoff``, ``retry_backoff_max`` and ``retry_jitter``."""
    stop: Condition | None = None
    """A tenacity stop in place of ``max_retries``."""
    retry: Condition | None = None
    """A tenacity retry condition in place of ``autoretry_for``."""

    @classmethod
    def build(cls, **options: Any) -> RetryPolicy:
        """The policy that a user's options describe; what is not given keeps its default.

        Args:
            options: the fields of this class. ``retry_backoff`` may be True (1 second), False (no wait) or
                any duration, ``retry_backoff_max`` any duration, the exception options a class or an
                iterable of them.

        Raises:
            UnknownOptionError: no such option.
            ConfigError: a value that cannot be used; the text says what to write.
        """
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise UnknownOptionError(name, known, "a retry policy")
        return cls(**{name: _CHECKS[name](value, name) for name, value in options.items()})

    def decide(
        self,
        error: BaseException,
        *,
        attempt: int,
        elapsed: float,
        max_retries: MaxRetries = UNSET,
        random: Callable[[], float] = random.random,
    ) -> float | None:
        """Seconds to wait before the next attempt, or ``None`` to give up.

        Args:
            error: what the attempt raised.
            attempt: the attempt that failed, from 1.
            elapsed: seconds since the first attempt started.
            max_retries: a limit for this message alone, instead of the policy's ``max_retries`` or ``stop``.
            random: returns a float in [0, 1).
        """
        if not self.retries(error, attempt=attempt, elapsed=elapsed):
            return None
        wait = self.delay_for(attempt, error, elapsed=elapsed, random=random)
        given_up = self.exhausted(attempt, elapsed, max_retries, error=error, wait=wait)
        return None if given_up else wait

    def retries(self, error: BaseException, *, attempt: int = 1, elapsed: float = 0.0) -> bool:
        """Whether *error* is one to retry at all; limits are not looked at."""
        if isinstance(error, self.dont_autoretry_for):
            return False
        if self.retry is not None:
            answer = _ask("retry", self.retry, _Failure(error, attempt, elapsed), _as_flag)
            if answer is not None:
                return answer
        return isinstance(error, self.autoretry_for)

    def delay_for(
        self,
        attempt: int,
        error: BaseException | None = None,
        *,
        elapsed: float = 0.0,
        random: Callable[[], float] = random.random,
    ) -> float:
        """Seconds to wait after *attempt*: 0 to :data:`LONGEST_WAIT`.

        With :meth:`exhausted`, the two halves of a ``raise Retry()`` that names no countdown.

        Args:
            attempt: the attempt that failed, from 1.
            error: what the attempt raised; a ``Retry`` if not given.
            elapsed: seconds since the first attempt started.
            random: returns a float in [0, 1).
        """
        if self.wait is not None:
            wait = _ask("wait", self.wait, _Failure(error, attempt, elapsed), _as_wait)
            if wait is not None:
                return wait
        exponential = self._exponential(attempt)
        return exponential * random() if self.retry_jitter else exponential

    def exhausted(
        self,
        attempt: int,
        elapsed: float,
        max_retries: MaxRetries = UNSET,
        *,
        error: BaseException | None = None,
        wait: float = 0.0,
    ) -> bool:
        """Whether *attempt* was the last one allowed.

        Args:
            attempt: the attempt that failed, from 1.
            elapsed: seconds since the first attempt started.
            max_retries: a limit for this message alone, instead of the policy's ``max_retries`` or ``stop``.
            error: what the attempt raised; a ``Retry`` if not given.
            wait: seconds that the next attempt would wait, for ``stop_before_delay``.
        """
        if self.stop is not None and max_retries is UNSET:
            answer = _ask("stop", self.stop, _Failure(error, attempt, elapsed, wait), _as_flag)
            if answer is not None:
                return answer
        limit = self.max_retries if max_retries is UNSET else max_retries
        return limit is not None and attempt > limit

    def _exponential(self, attempt: int) -> float:
        doublings = min(max(attempt - 1, 0), _LARGEST_EXPONENT)
        return min(self.retry_backoff * 2.0**doublings, self.retry_backoff_max, LONGEST_WAIT)


@dataclass(frozen=True, slots=True)
class _Failure:
    """One failed attempt, to be shown to tenacity's objects."""

    error: BaseException | None
    attempt: int
    elapsed: float
    wait: float = 0.0

    def state(self) -> RetryCallState:
        """What tenacity would have passed, had it made the attempts itself."""
        # tenacity takes 20 ms to import, and most programs never need it
        from tenacity import Future, RetryCallState

        outcome = Future(self.attempt)
        outcome.set_exception(self.error if self.error is not None else Retry())
        state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
        state.attempt_number = self.attempt
        state.outcome = outcome
        # attempts run in different processes, so no monotonic clock is common to them: time starts at zero
        state.start_time = 0.0
        state.outcome_timestamp = max(self.elapsed, 0.0)
        # the waits alone are not recorded; all the time that passed is the nearest known
        state.idle_for = max(self.elapsed, 0.0)
        state.upcoming_sleep = self.wait
        return state


def _ask(
    option: str,
    strategy: Callable[[RetryCallState], object],
    failure: _Failure,
    read: Callable[[object], Answer],
) -> Answer | None:
    """The answer of a tenacity object, or ``None`` if it has none that *read* accepts."""
    try:
        return read(strategy(failure.state()))
    except Exception as error:  # a bug in the policy must cost neither the message nor the worker
        _logger.warning("the retry policy's %s= failed: %r; the option it replaced decides", option, error)
        return None


def _as_wait(answer: object) -> float:
    """*answer* as seconds, at most :data:`LONGEST_WAIT`.

    Raises:
        ValueError: it is not a number of seconds.
    """
    # "not >=" rather than "<", so that nan is refused too
    if isinstance(answer, bool) or not isinstance(answer, (int, float)) or not answer >= 0:
        raise ValueError(f"{answer!r} is not a number of seconds")
    return float(min(answer, LONGEST_WAIT))


def _as_flag(answer: object) -> bool:
    """*answer* as yes or no.

    Raises:
        ValueError: it is ``None``: a function that forgot its ``return`` must not mean "never stop".
    """
    if answer is None:
        raise ValueError("None is neither yes nor no")
    return bool(answer)


def _check_max_retries(value: object, what: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_RETRIES:
        raise ConfigError(
            f"{what}: write 0 (never), a whole number up to 10**9, or None (no limit), not {shown(value)}"
        )
    return value


def _check_backoff(value: Any, what: str) -> float:
    return float(value) if isinstance(value, bool) else seconds(value, what)


def _check_exceptions(value: object, what: str) -> ExceptionTypes:
    found = tuple(value) if isinstance(value, Iterable) and not isinstance(value, type) else (value,)
    for item in found:
        if not (isinstance(item, type) and issubclass(item, BaseException)):
            raise ConfigError(f"{what}: write an exception class or a tuple of them, not {shown(item)}")
    return found


def _check_strategy(value: Any, what: str) -> Any:
    if value is None:
        return None
    if isinstance(value, type) or not callable(value):
        raise ConfigError(f"{what}: write a tenacity object such as {_EXAMPLES[what]}, not {shown(value)}")
    if is_async(value):
        raise ConfigError(f"{what}: {value!r} is async; write a sync function or tenacity object")
    return value


_EXAMPLES = {
    "wait": "wait_exponential_jitter(max=60)",
    "stop": "stop_after_attempt(5)",
    "retry": "retry_if_exception_type(OSError)",
}

_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "max_retries": _check_max_retries,
    "retry_backoff": _check_backoff,
    "retry_backoff_max": seconds,
    "retry_jitter": lambda value, what: check_flag(value, f"{what}: it"),
    "autoretry_for": _check_exceptions,
    "dont_autoretry_for": _check_exceptions,
    "wait": _check_strategy,
    "stop": _check_strategy,
    "retry": _check_strategy,
}
