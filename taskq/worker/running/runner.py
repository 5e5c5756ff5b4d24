"""Run one delivery: a few small steps that end in one :class:`Outcome`. Nothing here talks to Redis.

``admit`` says whether it may start; the executor calls the function; ``succeeded`` or ``failed`` says what it came
to. Executors differ in how they call a function, and in nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from random import random
from typing import Any

import msgspec

from taskq import failpoints
from taskq.broker.scripts import member, settling
from taskq.broker.scripts.settling import COMPLETE, Commit, Release
from taskq.client.context import Context
from taskq.client.dlq.letter import Evidence, buried
from taskq.errors import NeverRanError, Reject, Retry, TaskqError, WorkerLostError
from taskq.logs import task_fields
from taskq.values.config import Config
from taskq.values.delivery import HANDED_BACK, Delivery, current_delivery
from taskq.values.durations import milliseconds
from taskq.values.functions import never_ran
from taskq.values.message import PLAIN, Failure, Meta, TaskState, decode, encode, remembered
from taskq.values.outcome import pack_error, pack_success
from taskq.worker.partition.settling import DONE, Outcome, released, together
from taskq.worker.running import forked
from taskq.worker.running.error_text import cause_of, text_of, traceback_of, type_of, unwieldy
from taskq.worker.running.limits import KINDS, limit_error
from taskq.worker.running.unknown import delay_ms

logger = logging.getLogger("taskq.task")

MAX_REMEMBERED = 200
"""Longest text kept of an attempt that was not the last, in characters."""

Within = Callable[..., Any]
"""Calls a function with arguments where a time limit may strike, and lets none strike elsewhere."""


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
        self.context = clean_context()
        """What a run starts with, in a copy: the context variables as they were when the app had been imported."""
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

    def call(self, delivery: Delivery, within: Within | None = None) -> Outcome:
        """Run a sync task here and now; whatever happens inside, it ends in an outcome.

        To be called in a copy of :attr:`context`.

        Args:
            delivery: the message.
            within: calls the task's function; None where the run has no time limit that strikes inside.
        """
        try:
            message, task = delivery.message, delivery.task
            # the first tests are those of `admit`, without a call: most messages have nothing that could refuse them
            if message.meta is not None or delivery.cancelled or delivery.crashes or delivery.permit is not None:
                refused = self.admit(delivery)
                if refused is not None:
                    return refused
            function, args = task.function, message.args
            if failpoints.ARMED:
                failpoints.hit("run.begin")
            current_delivery.set(delivery)
            if task.bind:
                args = [Context(delivery), *args]
            value = function(*args, **message.kwargs) if within is None else within(function, *args, **message.kwargs)
        except BaseException as error:
            if forked.strayed:
                forked.leave(error)
            return self.failed(delivery, error)
        if forked.strayed:
            forked.leave(None)
        if failpoints.ARMED:
            failpoints.hit("run.end")
        return self.succeeded(delivery, value)

    async def acall(self, delivery: Delivery) -> Outcome:
        """Run an async task on this event loop; every exception becomes an outcome.

        To be awaited by an asyncio task that has a copy of :attr:`context`.
        """
        try:
            refused = self.admit(delivery)
            if refused is not None:
                return refused
            message, task = delivery.message, delivery.task
            if failpoints.ARMED:
                failpoints.hit("arun.begin")
            current_delivery.set(delivery)
            if task.bind:
                value = await task.function(Context(delivery), *message.args, **message.kwargs)
            else:
                value = await task.function(*message.args, **message.kwargs)
        except BaseException as error:
            if forked.strayed:
                forked.leave(error)
            return self.failed(delivery, meaning_of(delivery, error))
        if forked.strayed:
            forked.leave(None)
        if failpoints.ARMED:
            failpoints.hit("arun.end")
        return self.succeeded(delivery, value)

    def succeeded(self, delivery: Delivery, value: Any) -> Outcome:
        """The outcome of a run that returned *value*."""
        try:
            meta = delivery.message.meta
            if meta is not None and meta.idempotency_key is not None and not delivery.settled:
                self._confirm(delivery, meta.idempotency_key)
            ignored = ignores_result(delivery)
            if ignored and value is not None and (why := never_ran(value)):
                return self._dead(delivery, "failed", NeverRanError(why), "")
            if ignored and delivery.tx is None and (meta is None or meta.schedule is None):
                return DONE
            stored = b"" if ignored else pack_success(value, delivery.attempt, f"the result of {delivery.message.task}")
            ttl_ms = delivery.task.settings.result_ttl_ms
            if delivery.tx is None:
                return Outcome(COMPLETE, "SUCCESS", stored, ttl_ms)
            return Outcome(Commit(delivery.tx.packed()), "SUCCESS", stored, ttl_ms)
        except BaseException as error:
            # running it again would give the same value, and do its effects twice
            return self._unstorable(delivery, value, error)

    def _unstorable(self, delivery: Delivery, value: Any, error: BaseException) -> Outcome:
        with contextlib.suppress(BaseException):  # the value may be a mapping of the user's own
            if why := never_ran(value):
                error = NeverRanError(why)
        return self._dead(delivery, "failed", error, "" if isinstance(error, TaskqError) else traceback_of(error))

    def _confirm(self, delivery: Delivery, key: str) -> None:
        """Keep the idempotency key, from the success on, for its whole time."""
        message = delivery.message
        claim = delivery.task.app.keys.queue(delivery.link.queue).claim(message.task, key)
        ttl_ms = milliseconds(self._config.idempotency_expires)
        # however many commands of the user's there are
        Context(delivery).tx.commands.append(("SET", claim, message.task_id, "PX", ttl_ms))

    def failed(self, delivery: Delivery, error: BaseException) -> Outcome:
        """The outcome of a run that raised *error*: again later, or the dead letter queue."""
        try:
            if delivery.cancelled == HANDED_BACK:  # it runs again elsewhere: nobody waits for this run
                return released(delivery)
            if isinstance(error, asyncio.CancelledError) and delivery.cancelled:
                return self.revoked(delivery)
            if failpoints.ARMED:
                failpoints.hit("run.failed")
            if isinstance(error, (KeyboardInterrupt, SystemExit, asyncio.CancelledError)):
                error = _worker_lost(error)
            return self._judge(delivery, error, traceback_of(error))
        except BaseException as trouble:  # a Retry with a nonsensical countdown, say: a worker outlives every task
            return self._dead(delivery, "failed", trouble, traceback_of(error) + traceback_of(trouble))

    def _judge(self, delivery: Delivery, error: BaseException, text: str) -> Outcome:
        """Again later, or the dead letter queue."""
        if isinstance(error, Reject):
            return self._dead(delivery, "rejected", error, text)
        wait = None if delivery.settled else self._wait_before_retry(delivery, error)
        if wait is None:
            return self._dead(delivery, "failed", cause_of(error), text)
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
            return Outcome(Release(crashes), "RELEASED")
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
        wait = delay_ms(milliseconds(self._config.unknown_task_delay), now_ms() - since)
        return Outcome(settling.Retry(wait, member(meta.priority, _with_meta(delivery, changed))), "RELEASED")

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
                past = _is_below_zero(error.countdown)
                return 0.0 if past else milliseconds(error.countdown, "Retry countdown") / 1000
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
        kind, said = type_of(error), text_of(error)
        _log(logging.WARNING, delivery, "%s failed: %s: %s; again in %.3g s", delivery.message.task, kind, said, wait)
        stored = b""
        if not ignores_result(delivery):
            stored = pack_error(TaskState.RETRY, kind, said, text, meta.attempt)
        data = member(meta.priority, _with_meta(delivery, changed))
        return Outcome(settling.Retry(round(wait * 1000), data), "RETRY", stored, delivery.task.settings.failure_ttl_ms)

    def _failure(self, meta: Meta, error: BaseException) -> Failure:
        """What is remembered of a failed attempt that is not the last."""
        cause = cause_of(error)
        text = text_of(cause)[:MAX_REMEMBERED]
        return Failure(meta.replays, meta.attempt, now_ms(), type_of(cause), text, self.worker)

    def _dead(self, delivery: Delivery, reason: str, error: BaseException, text: str, **known: Any) -> Outcome:
        try:
            return self._buried(delivery, reason, error, text, **known)
        except BaseException as trouble:  # no memory for the evidence, say
            return unrecordable(delivery, trouble, self.worker)

    def _buried(
        self, delivery: Delivery, reason: str, error: BaseException, text: str, *, crashes: int = 0, **known: Any
    ) -> Outcome:
        if failpoints.ARMED:
            failpoints.hit("dead.decided")
        message = delivery.message
        meta = message.meta or PLAIN
        kind, said = type_of(error), text_of(error)
        evidence = Evidence(
            error_type=kind,
            error=said,
            traceback=text,
            reason=reason,
            attempts=meta.attempt,
            crashes=crashes or delivery.crashes + meta.crashes,
            worker=self.worker,
            died_at=now_ms(),
            first_at=meta.first,
            **known,
        )
        shown = error if text and not unwieldy(error) else None
        _log(logging.ERROR, delivery, "%s is a dead letter (%s): %s: %s", message.task, reason, kind, said, error=shown)
        stored, ttl_ms = b"", 1
        if not self._nobody_asks(delivery):
            stored = pack_error(TaskState.FAILURE, kind, said, text, meta.attempt)
            task = delivery.task
            ttl_ms = milliseconds(self._config.failure_expires) if task is None else task.settings.failure_ttl_ms
        return Outcome(buried(delivery.data, message.task, evidence), "FAILURE", stored, ttl_ms)

    def _nobody_asks(self, delivery: Delivery) -> bool:
        """Whether the outcome need not be stored; of a task that is not known here by the app's own settings."""
        if delivery.task is not None:
            return ignores_result(delivery)
        meta = delivery.message.meta or PLAIN
        return self._config.task_ignore_result if meta.ignore_result is None else meta.ignore_result

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
    """The outcome of an entry that is not a message: to the dead letter queue with its bytes."""
    evidence = Evidence(error_type="DecodeError", error=reason, reason="malformed", worker=worker, died_at=now_ms())
    return Outcome(buried(data, "", evidence), "FAILURE")


def unrecordable(delivery: Delivery, trouble: BaseException, worker: str) -> Outcome:
    """The outcome of a run whose own outcome cannot be made or sent, because of *trouble*: a dead letter that says so.

    It is not run again: it has run, and the next outcome would be no better.
    """
    text = f"the outcome of the run cannot be recorded: {type_of(trouble)}: {text_of(trouble)}"
    evidence = Evidence(
        error_type="UnrecordableOutcome",
        error=text,
        reason="failed",
        attempts=delivery.attempt,
        worker=worker,
        died_at=now_ms(),
    )
    stored, ttl_ms = b"", 1
    if delivery.task is not None and not ignores_result(delivery):
        stored = pack_error(TaskState.FAILURE, evidence.error_type, text, "", delivery.attempt)
        ttl_ms = delivery.task.settings.failure_ttl_ms
    return Outcome(buried(delivery.data, delivery.message.task, evidence), "FAILURE", stored, ttl_ms)


def _is_below_zero(countdown: object) -> bool:
    seconds = countdown.total_seconds() if isinstance(countdown, timedelta) else countdown
    return isinstance(seconds, (int, float)) and seconds < 0


def _worker_lost(error: BaseException) -> WorkerLostError:
    """What a task says that raised what ends a thread or a process: the worker stays, the attempt has failed."""
    lost = WorkerLostError(f"the task raised {type_of(error)}")
    lost.__cause__ = error
    return lost


def _with_meta(delivery: Delivery, meta: Meta) -> bytes:
    # from the bytes, not from delivery.message: the task may have changed its arguments in place
    message = decode(delivery.data)
    message.meta = meta
    return encode(message)


def meaning_of(delivery: Delivery, error: BaseException) -> BaseException:
    """A cancellation that a time limit caused is that time limit."""
    if isinstance(error, asyncio.CancelledError) and delivery.cancelled in KINDS:
        why, delivery.cancelled = delivery.cancelled, ""
        return limit_error(delivery, why)
    return error


def clean_context() -> contextvars.Context:
    """The context variables as they are now, but for those that runs would change in place for each other."""
    clean = contextvars.Context()
    for variable, value in contextvars.copy_context().items():
        # importing a module that calculates leaves its thread's decimal context here: a mutable object
        if variable is not current_delivery and type(value).__module__ != "decimal":
            clean.run(variable.set, value)
    return clean


def _log(level: int, delivery: Delivery, text: str, *args: object, error: BaseException | None = None) -> None:
    """Log a line of *delivery*; what the user's handlers, filters and exceptions raise costs the line alone."""
    if logger.isEnabledFor(level):
        with contextlib.suppress(Exception):
            logger.log(level, text, *args, exc_info=error, extra=task_fields(delivery))
