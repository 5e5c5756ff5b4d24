"""Run one delivery: a few small steps that end in one :class:`Outcome`. Nothing here talks to Redis.

``admit`` says whether it may start; the executor calls the function; ``succeeded`` or ``failed`` says what it came
to. Executors differ in how they call a function, and in nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import traceback as tracebacks
from collections.abc import Callable
from random import random
from typing import Any

import msgspec

from taskq import failpoints
from taskq.broker.scripts import member
from taskq.config import Config
from taskq.context import Context, current_delivery
from taskq.delivery import Delivery
from taskq.dlq.letter import Evidence, buried
from taskq.durations import milliseconds
from taskq.errors import (
    NeverRanError,
    Reject,
    Retry,
    SerializationError,
    SoftTimeLimitExceededError,
    TaskControl,
    TimeLimitExceededError,
    WorkerLostError,
)
from taskq.functions import never_ran
from taskq.logs import task_fields
from taskq.message import PLAIN, Failure, Meta, TaskState, decode, encode, remembered
from taskq.outcome import pack_error, pack_success
from taskq.worker.outcomes import COMMIT, COMPLETE, DEAD_LETTER, DONE, RELEASE, RETRY, Outcome, released, together

logger = logging.getLogger("taskq.task")

MAX_REMEMBERED = 200
"""Longest text kept of an attempt that was not the last, in characters."""
MAX_TEXT = 20_000
"""Longest traceback kept, in characters: the end, where the error is."""


def now_ms() -> int:
    """This host's epoch milliseconds."""
    return time.time_ns() // 1_000_000


def _ago_ms(seconds: float) -> int:
    """This host's epoch milliseconds *seconds* ago."""
    return now_ms() - round(seconds * 1000)


class Runner:
    """Turns deliveries into outcomes for one app.

    Args:
        config: of the app.
        worker: the name kept in dead letters.
    """

    def __init__(self, config: Config, worker: str | None = None) -> None:
        self._config = config
        self.worker = worker or f"{socket.gethostname()}:{os.getpid()}"

    def admit(self, delivery: Delivery) -> Outcome | None:
        """The outcome of a delivery that must not start; None when it may."""
        if delivery.cancelled:
            return self.revoked(delivery)
        if delivery.crashes and not delivery.task.settings.at_most_once:  # those had not begun when they died
            meta = delivery.message.meta or PLAIN
            crashes = delivery.crashes + meta.crashes
            if crashes >= self._config.max_crashes:
                return self.crashed(delivery, crashes)
        meta = delivery.message.meta or PLAIN
        if meta.expires and now_ms() > meta.expires:
            return self._ended(delivery, TaskState.EXPIRED, "the message expired before it could start")
        if delivery.permit is not None and time.monotonic() > delivery.permit and not delivery.settled:
            return released(delivery)  # too late: a start now might be one too many
        return None

    def call(self, delivery: Delivery) -> Outcome:
        """Run a sync task here and now; every exception becomes an outcome."""
        refused = self.admit(delivery)
        if refused is not None:
            return refused
        message, task = delivery.message, delivery.task
        if failpoints.ARMED:
            failpoints.hit("run.begin")
        token = current_delivery.set(delivery)
        try:
            if task.bind:
                value = task.function(Context(delivery), *message.args, **message.kwargs)
            else:
                value = task.function(*message.args, **message.kwargs)
        except BaseException as error:
            return self.failed(delivery, error)
        finally:
            current_delivery.reset(token)
        if failpoints.ARMED:
            failpoints.hit("run.end")
        return self.succeeded(delivery, value)

    async def acall(self, delivery: Delivery) -> Outcome:
        """Run an async task on this event loop; every exception becomes an outcome."""
        refused = self.admit(delivery)
        if refused is not None:
            return refused
        message, task = delivery.message, delivery.task
        if failpoints.ARMED:
            failpoints.hit("arun.begin")
        current_delivery.set(delivery)  # this coroutine has a context of its own
        try:
            if task.bind:
                value = await task.function(Context(delivery), *message.args, **message.kwargs)
            else:
                value = await task.function(*message.args, **message.kwargs)
        except BaseException as error:
            return self.failed(delivery, meaning_of(delivery, error))
        if failpoints.ARMED:
            failpoints.hit("arun.end")
        return self.succeeded(delivery, value)

    def succeeded(self, delivery: Delivery, value: Any) -> Outcome:
        """The outcome of a run that returned *value*."""
        meta = delivery.message.meta
        if meta is not None and meta.idempotency_key is not None and not delivery.settled:
            self._confirm(delivery, meta.idempotency_key)
        ignored = ignores_result(delivery)
        if ignored and value is not None and (why := never_ran(value)):
            return self._dead(delivery, "failed", NeverRanError(why), "")
        if ignored and delivery.tx is None and (meta is None or meta.schedule is None):
            return DONE
        try:
            stored = b"" if ignored else pack_success(value, delivery.attempt, f"the result of {delivery.message.task}")
        except SerializationError as error:
            # running it again would give the same value, and do its effects twice
            return self._dead(delivery, "failed", NeverRanError(why) if (why := never_ran(value)) else error, "")
        ttl_ms = delivery.task.settings.result_ttl_ms
        if delivery.tx is None:
            return Outcome(COMPLETE, "SUCCESS", stored, ttl_ms)
        return Outcome(COMMIT, "SUCCESS", stored, ttl_ms, delivery.tx.packed())

    def _confirm(self, delivery: Delivery, key: str) -> None:
        """Keep the idempotency key, from the success on, for its whole time."""
        message = delivery.message
        claim = delivery.task.app.keys.queue(delivery.link.queue).claim(message.task, key)
        ttl_ms = milliseconds(self._config.idempotency_expires)
        # however many commands of the user's there are
        Context(delivery).tx.commands.append(("SET", claim, message.task_id, "PX", ttl_ms))

    def failed(self, delivery: Delivery, error: BaseException) -> Outcome:
        """The outcome of a run that raised *error*: again later, or the dead letter queue."""
        if isinstance(error, asyncio.CancelledError) and delivery.cancelled:
            return self.revoked(delivery)
        if isinstance(error, (KeyboardInterrupt, SystemExit, asyncio.CancelledError)):
            error = WorkerLostError(f"the task raised {type(error).__name__}")
        if failpoints.ARMED:
            failpoints.hit("run.failed")
        text = _traceback(error)
        try:
            return self._judge(delivery, error, text)
        except Exception as trouble:  # a Retry with a nonsensical countdown, say: a worker outlives every task
            return self._dead(delivery, "failed", trouble, text + _traceback(trouble))

    def _judge(self, delivery: Delivery, error: BaseException, text: str) -> Outcome:
        """Again later, or the dead letter queue."""
        if isinstance(error, Reject):
            return self._dead(delivery, "rejected", error, text)
        wait = None if delivery.settled else self._wait_before_retry(delivery, error)
        if wait is None:
            cause = error.reason if isinstance(error, Retry) and isinstance(error.reason, Exception) else error
            return self._dead(delivery, "failed", cause, text)
        return self._again(delivery, wait, error, text)

    def dead(self, delivery: Delivery, error: BaseException) -> Outcome:
        """The outcome of a run that failed with *error*, where another one would fail the same way."""
        return self._dead(delivery, "failed", error, "")

    def crashed(self, delivery: Delivery, crashes: int, **evidence: Any) -> Outcome:
        """The outcome of a message that has killed *crashes* workers: the dead letter queue, with the *evidence*."""
        error = WorkerLostError(f"{crashes} workers died while they ran it")
        return self._dead(delivery, "crashed", error, "", crashes=crashes, **evidence)

    def lost_child(self, delivery: Delivery, exit_code: int | None, rss_bytes: int, ran: float) -> Outcome:
        """The outcome of a delivery whose child process died: again, or after ``max_crashes`` the dead letter queue.

        One that runs at most once goes there at once.
        """
        if delivery.settled:
            return self._lost_once(delivery, exit_code=exit_code, rss_bytes=rss_bytes, started_at=_ago_ms(ran))
        meta = delivery.message.meta or PLAIN
        # a suspect that has not been charged was in the hands of a worker that died: it was this one then, too
        crashes = 2 if delivery.suspect and not delivery.crashes else delivery.crashes + 1
        if crashes + meta.crashes < self._config.max_crashes:
            return Outcome(RELEASE, "RELEASED", extra=(crashes,))
        delivery.crashes = crashes
        return self.crashed(
            delivery,
            crashes + meta.crashes,
            exit_code=exit_code,
            rss_bytes=rss_bytes,
            started_at=_ago_ms(ran),
        )

    def interrupted(self, delivery: Delivery) -> Outcome:
        """The outcome of a delivery that lost its process and is not to blame: again, uncharged, where it may be."""
        if delivery.members is not None:
            return together([self.interrupted(member) for member in delivery.members])
        return self._lost_once(delivery) if delivery.settled else released(delivery)

    def _lost_once(self, delivery: Delivery, **evidence: Any) -> Outcome:
        error = WorkerLostError('its process died while it ran, and delivery="at_most_once" does not run it again')
        return self._dead(delivery, "crashed", error, "", crashes=1, **evidence)

    def revoked(self, delivery: Delivery) -> Outcome:
        """The outcome of a delivery that was stopped."""
        return self._ended(delivery, TaskState.REVOKED, "the task was revoked")

    def unknown(self, delivery: Delivery) -> Outcome:
        """The outcome of a message whose task this worker does not know: back with a delay, nothing charged."""
        meta = delivery.message.meta or Meta()
        since = meta.unknown_since or now_ms()
        if now_ms() - since > self._config.unknown_task_timeout * 1000:
            error = LookupError(f"no worker knew the task {delivery.message.task!r}")
            return self._dead(delivery, "unknown task", error, "")
        changed = msgspec.structs.replace(meta, unknown_since=since, crashes=meta.crashes + delivery.crashes)
        wait = milliseconds(self._config.unknown_task_delay)
        return Outcome(RETRY, "RELEASED", extra=(wait, member(meta.priority, _with_meta(delivery, changed))))

    def _wait_before_retry(self, delivery: Delivery, error: BaseException) -> float | None:
        """Seconds until the next attempt, None for none."""
        meta = delivery.message.meta or PLAIN
        policy = delivery.task.settings.retry_policy
        elapsed = (now_ms() - meta.first) / 1000 if meta.first else time.monotonic() - delivery.started
        limits = {} if meta.max_retries is None else {"max_retries": meta.max_retries}
        if isinstance(error, Retry):
            if error.max_retries is not None:
                limits = {"max_retries": error.max_retries}
            if policy.exhausted(delivery.attempt, elapsed, **limits):
                return None
            if error.eta is not None:
                return max(error.eta.timestamp() - time.time(), 0.0)
            if error.countdown is not None:
                return milliseconds(error.countdown, "Retry countdown") / 1000
            return float(policy.delay_for(delivery.attempt, error, elapsed=elapsed))
        wait: float | None = policy.decide(error, attempt=delivery.attempt, elapsed=elapsed, random=random, **limits)
        return wait

    def _again(self, delivery: Delivery, wait: float, error: BaseException, text: str) -> Outcome:
        if failpoints.ARMED:
            failpoints.hit("retry.decided")
        meta = delivery.message.meta or Meta()
        first = meta.first or round(now_ms() - (time.monotonic() - delivery.started) * 1000)
        changed = msgspec.structs.replace(
            meta,
            attempt=meta.attempt + 1,
            first=first,
            crashes=meta.crashes + delivery.crashes,
            unknown_since=0,
            failures=remembered(meta.failures, self._failure(meta, error)),
        )
        if logger.isEnabledFor(logging.WARNING):
            logger.warning(
                "%s failed: %s: %s; again in %.3g s",
                *(delivery.message.task, type(error).__qualname__, _text(error), wait), extra=task_fields(delivery),
            )  # fmt: skip
        stored = b""
        if not ignores_result(delivery):
            stored = pack_error(TaskState.RETRY, type(error).__qualname__, _text(error), text, meta.attempt)
        data = member(meta.priority, _with_meta(delivery, changed))
        return Outcome(RETRY, "RETRY", stored, delivery.task.settings.failure_ttl_ms, (round(wait * 1000), data))

    def _failure(self, meta: Meta, error: BaseException) -> Failure:
        """What is remembered of a failed attempt that is not the last."""
        cause = error.reason if isinstance(error, Retry) and isinstance(error.reason, Exception) else error
        text = _text(cause)[:MAX_REMEMBERED]
        return Failure(meta.replays, meta.attempt, now_ms(), type(cause).__qualname__, text, self.worker)

    def _dead(
        self, delivery: Delivery, reason: str, error: BaseException, text: str, *, crashes: int = 0, **known: Any
    ) -> Outcome:
        if failpoints.ARMED:
            failpoints.hit("dead.decided")
        message = delivery.message
        meta = message.meta or PLAIN
        kind = type(error).__qualname__
        evidence = Evidence(
            error_type=kind,
            error=_text(error),
            traceback=text,
            reason=reason,
            attempts=meta.attempt,
            crashes=crashes or delivery.crashes + meta.crashes,
            worker=self.worker,
            died_at=now_ms(),
            first_at=meta.first,
            **known,
        )
        if logger.isEnabledFor(logging.ERROR):
            logger.error(
                "%s is a dead letter (%s): %s: %s", message.task, reason, kind, _text(error),
                exc_info=error if text else None, extra=task_fields(delivery),
            )  # fmt: skip
        stored, ttl_ms = b"", 1
        if delivery.task is not None and not ignores_result(delivery):
            stored = pack_error(TaskState.FAILURE, kind, _text(error), text, meta.attempt)
            ttl_ms = delivery.task.settings.failure_ttl_ms
        return Outcome(DEAD_LETTER, "FAILURE", stored, ttl_ms, buried(delivery.data, message.task, evidence))

    def _ended(self, delivery: Delivery, state: TaskState, reason: str) -> Outcome:
        """REVOKED and EXPIRED. The outcome is stored even without results: a revoke mark ends with it."""
        stored = pack_error(state, "", reason, "", delivery.attempt)
        return Outcome(COMPLETE, state.value, stored, delivery.task.settings.result_ttl_ms if delivery.task else 1)


def ignores_result(delivery: Delivery) -> bool:
    """Whether nobody wants the result: what the call said, else what the task says."""
    meta = delivery.message.meta
    if meta is not None and meta.ignore_result is not None:
        return meta.ignore_result
    return bool(delivery.task.settings.ignore_result)


def malformed(data: bytes, reason: str, worker: str) -> Outcome:
    """The outcome of an entry that is no message: to the dead letter queue with its bytes."""
    evidence = Evidence(error_type="DecodeError", error=reason, reason="malformed", worker=worker, died_at=now_ms())
    return Outcome(DEAD_LETTER, "FAILURE", extra=buried(data, "", evidence))


def _with_meta(delivery: Delivery, meta: Meta) -> bytes:
    # from the bytes, not from delivery.message: the task may have changed its arguments in place
    message = decode(delivery.data)
    message.meta = meta
    return encode(message)


def meaning_of(delivery: Delivery, error: BaseException) -> BaseException:
    """A cancellation that a time limit caused is that time limit."""
    if isinstance(error, asyncio.CancelledError):
        limits: dict[str, Callable[[str], Exception]] = {
            "soft time limit": SoftTimeLimitExceededError,
            "time limit": TimeLimitExceededError,
        }
        if delivery.cancelled in limits:
            kind, delivery.cancelled = limits[delivery.cancelled], ""
            return kind("the task ran into its time limit")
    return error


def _traceback(error: BaseException) -> str:
    if isinstance(error, TaskControl) and error.__cause__ is None:
        return ""
    try:
        text = "".join(tracebacks.format_exception(error))
    except Exception:  # a cause, note or source loader of the user's that fails in turn
        text = "".join(tracebacks.format_tb(error.__traceback__))
    return _encodable(text[-MAX_TEXT:])


def _text(error: BaseException) -> str:
    """What *error* says; its ``__str__`` is the user's code and may fail."""
    try:
        return _encodable(str(error)[:MAX_TEXT])
    except Exception as failure:
        return f"(its text cannot be shown: {type(failure).__name__})"


def _encodable(text: str) -> str:
    """*text* without lone surrogates, as in the name of a file that is not UTF-8: they have no wire form."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
