"""What a consumer asks of Redis, written once: generators yield steps, and a driver of either kind does them.

A step is a script call, a :class:`Commands`, or a :class:`Wait`. Its reply is sent into the generator; what goes wrong
is thrown into it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from taskq.broker.calls import Call
from taskq.broker.link.address import Address
from taskq.broker.link.aio import AsyncConnection
from taskq.broker.link.sync import SyncConnection
from taskq.errors import BrokerUnavailableError

T = TypeVar("T")


class Commands(NamedTuple):
    """Commands for one round trip; the reply is a list, in which a refused one is a :class:`BrokerError`."""

    commands: Sequence[Sequence[Any]]
    blocking: float = 0.0
    """Seconds that Redis may take before it answers."""


class Wait(NamedTuple):
    """Let time pass, unless the consumer is closed."""

    seconds: float


Step: TypeAlias = Call | Commands | Wait
Steps: TypeAlias = Generator[Step, Any, T]


class SyncDriver:
    """Does steps on a socket of its own; used by one thread at a time.

    Args:
        address: where Redis is.
        connect_timeout: seconds for one attempt to connect.
        deadline: seconds for one step, besides those that it may block.
    """

    def __init__(self, address: Address, connect_timeout: float, deadline: float) -> None:
        self._connection = SyncConnection(address, connect_timeout)
        self._deadline = deadline
        self._closed = threading.Event()
        self.turn = threading.Lock()
        """For the thread whose steps are done."""

    def run(self, steps: Steps[T]) -> T:
        """Do *steps*; what they return."""
        try:
            step = next(steps)
            while True:
                try:
                    reply = self._do(step)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            found: T = end.value
            return found

    def close(self) -> None:
        """From any thread: what is under way ends with :class:`BrokerUnavailableError`."""
        self._closed.set()
        self._connection.shutdown()
        if self.turn.acquire(timeout=1):
            self._connection.close()
            self.turn.release()

    def _do(self, step: Step) -> Any:
        if isinstance(step, Wait):
            self._closed.wait(step.seconds)
            return None
        if self._closed.is_set():
            raise BrokerUnavailableError("the consumer is closed")
        limit = time.monotonic() + self._deadline
        if isinstance(step, Call):
            return self._connection.run(step, limit)
        return self._connection.pipeline(step.commands, limit + step.blocking)


class AsyncDriver:
    """Does steps on a connection of its own, on one event loop; parameters as :class:`SyncDriver`."""

    def __init__(self, address: Address, connect_timeout: float, deadline: float) -> None:
        self._address = address
        self._connect_timeout = connect_timeout
        self._deadline = deadline
        self._connection: AsyncConnection | None = None
        self._closed = asyncio.Event()
        self.turn = asyncio.Lock()
        """For the coroutine whose steps are done."""

    async def run(self, steps: Steps[T]) -> T:
        """Do *steps*; what they return."""
        try:
            step = next(steps)
            while True:
                try:
                    reply = await self._do(step)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            found: T = end.value
            return found

    def close(self) -> None:
        """On the loop: what is under way ends with :class:`BrokerUnavailableError`."""
        self._closed.set()
        self.hang_up()

    def hang_up(self) -> None:
        """Close the connection; the next step opens another."""
        if self._connection is not None:
            self._connection.close()

    def drop(self) -> None:
        """As :meth:`hang_up`, when the event loop is closed already."""
        if self._connection is not None:
            self._connection.drop()

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Wait):
            try:
                async with asyncio.timeout(step.seconds):
                    await self._closed.wait()
            except TimeoutError:
                pass
            return None
        connection = await self._open()
        if isinstance(step, Call):
            return await connection.run(step, self._deadline)
        return await connection.pipeline(step.commands, self._deadline + step.blocking)

    async def _open(self) -> AsyncConnection:
        if not self._closed.is_set() and (self._connection is None or not self._connection.is_open):
            self._connection = await AsyncConnection.open(self._address, self._connect_timeout, "taskq-fifo")
        if self._closed.is_set() or self._connection is None:  # also while it was opened
            self.close()
            raise BrokerUnavailableError("the consumer is closed")
        return self._connection
