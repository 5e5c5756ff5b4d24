"""The handle of one message: its status, its outcome, and ways to wait for it or stop it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from taskq import outcome
from taskq.broker import messages, scripts
from taskq.broker.keys import QueueKeys
from taskq.broker.listener import REREAD
from taskq.durations import Duration, milliseconds, seconds
from taskq.errors import BrokerUnavailableError, ResultTimeoutError, TaskqError
from taskq.message import TaskState
from taskq.outcome import Ending

if TYPE_CHECKING:
    from taskq.app import TaskQ

R = TypeVar("R")


class Result(Generic[R]):
    """One message, by its id. Made by ``.delay()`` and by ``app.result(task_id)``.

    Waiting is push: a worker publishes an outcome to those who wait for it.
    """

    __slots__ = ("_app", "_ignored", "_queue", "_when_ms", "id")

    def __init__(
        self, app: TaskQ, task_id: str, queue: str | None = None, *, when_ms: int = 0, ignored: bool = False
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
        ending = self._read()
        return ending is not None and ending.state.final

    async def aready(self) -> bool:
        """As :meth:`ready`, without blocking the event loop."""
        return await asyncio.to_thread(self.ready)

    def successful(self) -> bool:
        """Whether it ended SUCCESS."""
        ending = self._read()
        return ending is not None and ending.state is TaskState.SUCCESS

    def failed(self) -> bool:
        """Whether it ended FAILURE."""
        ending = self._read()
        return ending is not None and ending.state is TaskState.FAILURE

    @property
    def traceback(self) -> str | None:
        """The traceback of its last failed attempt, as text; None when there is none."""
        ending = self._read()
        return ending.traceback or None if ending is not None else None

    def get(self, timeout: Duration | None = None, *, propagate: bool = True) -> R:
        """Wait for the outcome and return the task's value.

        Args:
            timeout: seconds to wait; None waits for as long as it takes.
            propagate: raise when the task did not succeed; with False, the error is returned instead.

        Raises:
            ResultTimeoutError: it did not end in time.
            TaskFailedError: it ended FAILURE (or its subclasses for REVOKED, EXPIRED and SKIPPED).
            TaskqError: the task stores no results.
            BrokerError: Redis could not be asked for longer than ``broker_deadline``.
        """
        try:
            ending = self._wait(self._limit(timeout))
        except BrokerUnavailableError as error:
            raise error.with_traceback(None) from None  # its text says all: what our code did tells nobody more
        return self._value(ending, propagate)

    async def aget(self, timeout: Duration | None = None, *, propagate: bool = True) -> R:
        """As :meth:`get`, without blocking the event loop. ``await result`` is the same without a timeout."""
        try:
            ending = await self._await(self._limit(timeout))
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

    def _limit(self, timeout: Duration | None) -> float:
        if self._ignored:
            raise TaskqError(f"task {self.id} stores no result: it was sent with ignore_result=True")
        return float("inf") if timeout is None else time.monotonic() + seconds(timeout, "timeout")

    def _value(self, ending: Ending, propagate: bool) -> R:
        if ending.state is TaskState.SUCCESS:
            return ending.value  # type: ignore[no-any-return]
        error = ending.exception(self.id)
        if propagate:
            raise error
        return error  # type: ignore[return-value]

    def _timed_out(self) -> ResultTimeoutError:
        return ResultTimeoutError(f"task {self.id} did not end in time; its status is {self.status}")

    def _wait(self, limit: float) -> Ending:
        candidates = self._candidates()
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

    async def _await(self, limit: float) -> Ending:
        listener, client = self._app.listeners.of_loop(), self._app.async_client
        candidates = self._candidates() if self._queue else await asyncio.to_thread(self._candidates)
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


def _final(raw: bytes | None) -> Ending | None:
    if raw is None or raw[:1] == b"R":
        return None
    return outcome.unpack(raw)


def _state_of(raw: bytes | None) -> TaskState:
    return TaskState.UNKNOWN if raw is None else outcome.unpack(raw).state
