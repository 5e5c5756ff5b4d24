"""The handle of one message: its status, its outcome, and ways to wait for it or stop it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from taskq.broker import scripts
from taskq.broker.keys import QueueKeys
from taskq.broker.link.listener import REREAD
from taskq.broker.views import messages
from taskq.broker.views.inspect import has_workers
from taskq.errors import (
    BrokerError,
    BrokerUnavailableError,
    ResultTimeoutError,
    TaskFailedError,
    TaskqError,
    WaitInsideTaskError,
)
from taskq.values import outcome
from taskq.values.checks import check_flag
from taskq.values.delivery import current_delivery
from taskq.values.durations import Duration, milliseconds, seconds
from taskq.values.message import TaskState
from taskq.values.outcome import Ending

if TYPE_CHECKING:
    from taskq.client.app import TaskQ

logger = logging.getLogger("taskq.result")

R = TypeVar("R")


class Result(Generic[R]):
    """One message, by its id. Made by ``.delay()`` and by ``app.result(task_id)``.

    Waiting is push: a worker publishes an outcome to those who wait for it.
    """

    __slots__ = ("_app", "_ignored", "_queue", "_when_ms", "id")

    def __init__(
        self, app: TaskQ, task_id: str, queue: str | None = None, *, when_ms: int = 0, ignored: bool | None = None
    ) -> None:
        self._app = app
        self.id = task_id
        """The task id."""
        self._queue = queue
        self._when_ms = when_ms
        self._ignored = ignored

    def __repr__(self) -> str:
        return f"<Result {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Result) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def status(self) -> TaskState:
        """Where the message is now, in all places at one moment: one that exists and moves is never missed.

        UNKNOWN: no trace of the id (never sent, expired, or no result was kept). UNTRACED: no trace among the messages
        that were looked at, in a queue with too many to look at all of them; a message sent lately is found there too,
        one that waits for its turn after a retry may not be.

        Raises:
            BrokerError: Redis could not be asked.
        """
        missing = TaskState.UNKNOWN
        for keys in self._candidates():
            trace = messages.find(self._app.sync_broker, keys, self.id, (self._when_ms,))
            state = trace.state or _state_of(trace.outcome)
            if state not in (TaskState.UNKNOWN, TaskState.UNTRACED):
                return state
            missing = state if state is TaskState.UNTRACED else missing
        return missing

    state = status

    async def astatus(self) -> TaskState:
        """As :attr:`status`, without blocking the event loop."""
        return await asyncio.to_thread(lambda: self.status)

    def ready(self) -> bool:
        """Whether the message has ended, in any way."""
        return self._end() is not None

    async def aready(self) -> bool:
        """As :meth:`ready`, without blocking the event loop."""
        return await asyncio.to_thread(self.ready)

    def successful(self) -> bool:
        """Whether it ended SUCCESS."""
        ending = self._read()
        return ending is not None and ending.state is TaskState.SUCCESS

    def failed(self) -> bool:
        """Whether it ended FAILURE."""
        return self._end() is TaskState.FAILURE

    @property
    def traceback(self) -> str | None:
        """The traceback of its last failed attempt, as text; None when there is none."""
        ending = self._read()
        return ending.traceback or None if ending is not None else None

    @overload
    def get(
        self, timeout: Duration | None = ..., *, propagate: Literal[True] = ..., allow_inside_task: bool = ...
    ) -> R: ...
    @overload
    def get(
        self, timeout: Duration | None = ..., *, propagate: bool, allow_inside_task: bool = ...
    ) -> R | TaskFailedError: ...
    def get(
        self, timeout: Duration | None = None, *, propagate: bool = True, allow_inside_task: bool = False
    ) -> R | TaskFailedError:
        """Wait for the outcome and return the task's value.

        Args:
            timeout: seconds to wait; None waits for as long as it takes. After five seconds a log line says what is
                wrong where nothing can come: no worker reads the queue, or there is no trace of the id.
            propagate: raise when the task did not succeed; with False, the error is returned instead.
            allow_inside_task: wait also inside a task. It holds its slot meanwhile: when all slots wait, none is left
                for what they wait for.

        Raises:
            WaitInsideTaskError: called inside a task without ``allow_inside_task``.
            ResultTimeoutError: it did not end in time.
            TaskFailedError: it ended FAILURE (or its subclasses for REVOKED, EXPIRED and SKIPPED).
            TaskqError: the task stores no results.
            BrokerError: Redis could not be asked for longer than ``broker_deadline``.
        """
        try:
            ending = self._wait(self._limit(timeout, allow_inside_task))
        except BrokerUnavailableError as error:
            raise error.with_traceback(None) from None  # its text says all: what our code did tells nobody more
        return self._value(ending, propagate)

    @overload
    async def aget(
        self, timeout: Duration | None = ..., *, propagate: Literal[True] = ..., allow_inside_task: bool = ...
    ) -> R: ...
    @overload
    async def aget(
        self, timeout: Duration | None = ..., *, propagate: bool, allow_inside_task: bool = ...
    ) -> R | TaskFailedError: ...
    async def aget(
        self, timeout: Duration | None = None, *, propagate: bool = True, allow_inside_task: bool = False
    ) -> R | TaskFailedError:
        """As :meth:`get`, without blocking the event loop. ``await result`` is the same without a timeout."""
        try:
            ending = await self._await(self._limit(timeout, allow_inside_task))
        except BrokerUnavailableError as error:
            raise error.with_traceback(None) from None
        return self._value(ending, propagate)

    def __await__(self) -> Generator[Any, None, R]:
        return self.aget().__await__()

    def forget(self) -> None:
        """Delete the stored outcome."""
        for keys in self._candidates():
            self._app.sync_broker.execute("DEL", keys.result(self.id))

    def revoke(self) -> bool:
        """Stop the message: queued, delayed or waiting for a retry it will never start; what runs is cancelled.

        What waits in its queue ends REVOKED at once. For all else a mark is kept in Redis, so it also holds for workers
        that start later. A running async task is cancelled, in the processes pool the child is killed after a grace
        time, a thread sees ``ctx.cancelled``.

        Returns:
            Whether there was something to stop: False when it has ended already, as far as its outcome is stored. After
            True a message that has not started never starts; one that runs may still end before it is stopped.
        """
        broker, config = self._app.sync_broker, self._app.config
        ending = outcome.pack_error(TaskState.REVOKED, "", "the task was revoked", "", 0)
        for keys in self._candidates():
            if not broker.run(scripts.revoke(keys, self.id, milliseconds(config.revoke_expires))):
                return False
            messages.end_waiting(broker, keys, self.id, ending, milliseconds(config.result_expires))
        return True

    async def arevoke(self) -> bool:
        """As :meth:`revoke`, without blocking the event loop."""
        return await asyncio.to_thread(self.revoke)

    def _candidates(self) -> list[QueueKeys]:
        names = [self._queue] if self._queue else self._app.known_queues()
        return [self._app.keys.queue(name) for name in names]

    def _read(self) -> Ending | None:
        for keys in self._candidates():
            raw = self._app.sync_broker.execute("GET", keys.result(self.id))
            if raw is not None:
                return outcome.unpack(raw)
        return None

    def _end(self) -> TaskState | None:
        """How it has ended; of a dead letter also where no outcome is kept. None while it has not."""
        ending = self._read()
        if ending is not None:
            return ending.state if ending.state.final else None
        if self._ignored is False:
            return None  # it stores one
        execute = self._app.sync_broker.execute
        if any(execute("EXISTS", keys.dead) for keys in self._candidates()) and (state := self.status).final:
            return state
        return None

    def _limit(self, timeout: Duration | None, allow_inside_task: bool) -> float:
        check_flag(allow_inside_task, "allow_inside_task")
        if not allow_inside_task and (running := current_delivery.get()) is not None:
            raise WaitInsideTaskError(
                f"task {running.message.task} waits for the result of another one: it holds its slot meanwhile, and "
                "when all slots wait, nothing runs. Send what comes next from the end of the other task, or write "
                "get(allow_inside_task=True), or aget(...), if other workers run it"
            )
        if self._ignored:
            raise TaskqError(f"task {self.id} stores no result: it was sent with ignore_result=True")
        return float("inf") if timeout is None else time.monotonic() + seconds(timeout, "timeout")

    def _value(self, ending: Ending, propagate: bool) -> R | TaskFailedError:
        if ending.state is TaskState.SUCCESS:
            return ending.value  # type: ignore[no-any-return]
        error = ending.exception(self.id)
        if propagate:
            raise error
        return error

    def _timed_out(self) -> ResultTimeoutError:
        return ResultTimeoutError(f"task {self.id} did not end in time; its status is {self.status}")

    def _warn(self, queues: Sequence[QueueKeys]) -> None:
        """Say why nothing comes, if that is plain to see."""
        execute = self._app.sync_broker.execute
        with suppress(BrokerError):
            status = self.status
            if status in (TaskState.UNKNOWN, TaskState.UNTRACED):
                logger.warning(
                    "get() waits for task %s, of which there is no trace: never sent here, or its result has "
                    "expired or was not kept. Give it a timeout",
                    self.id,
                )
            elif status is not TaskState.STARTED and not any(has_workers(execute, k) for k in queues):
                names = ", ".join(keys.queue for keys in queues)
                logger.warning("get() waits for task %s, but no worker reads queue %s", self.id, names)

    def _wait(self, limit: float) -> Ending:
        candidates, patience = self._candidates(), _Patience()
        with self._app.listeners.borrow() as listener:
            while True:
                listener.subscribe()
                for keys in candidates:
                    raw = self._app.sync_broker.run(scripts.wait(keys, self.id, listener.channel))
                    if (ending := _final(raw)) is not None:
                        return ending
                remaining = limit - time.monotonic()
                if remaining <= 0:
                    raise self._timed_out()
                if (ending := _final(listener.receive(self.id, min(REREAD, remaining)))) is not None:
                    return ending
                if patience.ended():
                    self._warn(candidates)

    async def _await(self, limit: float) -> Ending:
        listener, client = self._app.listeners.of_loop(), self._app.async_client
        candidates = self._candidates() if self._queue else await asyncio.to_thread(self._candidates)
        patience = _Patience()
        while True:
            await listener.subscribe()
            published = listener.expect(self.id)
            try:
                for keys in candidates:
                    call = scripts.wait(keys, self.id, listener.channel)
                    raw = await client.run(call, self._app.config.broker_deadline)
                    if (ending := _final(raw)) is not None:
                        return ending
                remaining = limit - time.monotonic()
                if remaining <= 0:
                    raise await asyncio.to_thread(self._timed_out)
                if (ending := _final(await listener.receive(published, min(REREAD, remaining)))) is not None:
                    return ending
            finally:
                listener.forget(self.id, published)
            if patience.ended():
                await asyncio.to_thread(self._warn, candidates)


LONG = 5.0
"""Seconds of waiting after which it is looked at whether anything can come."""


class _Patience:
    """Ends once, after :data:`LONG`."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = time.monotonic() + LONG

    def ended(self) -> bool:
        """Whether it ends now."""
        if time.monotonic() < self._until:
            return False
        self._until = float("inf")
        return True


def _final(raw: bytes | None) -> Ending | None:
    if raw is None or raw[:1] == b"R":
        return None
    return outcome.unpack(raw)


def _state_of(raw: bytes | None) -> TaskState:
    return TaskState.UNKNOWN if raw is None else outcome.unpack(raw).state
