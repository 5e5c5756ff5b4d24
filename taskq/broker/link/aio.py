"""The async driver: a pipelined connection on the event loop, for workers and async producers.

An ``asyncio.Protocol`` over hiredis, because a worker's settle-and-fetch call is its hot path: about half the cost
of redis-py's asyncio client per call (see ``docs/decisions/0002-own-connections.md``). Nothing is re-sent here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

import hiredis

from taskq.broker.calls import Call
from taskq.broker.link import siblings
from taskq.broker.link.address import Address
from taskq.broker.link.dial import adial
from taskq.broker.link.patience import SMALL, Patience, unsent
from taskq.broker.link.replies import is_denied, is_noscript
from taskq.broker.link.sync import SILENT, backoff, gave_up, reason, try_until
from taskq.broker.link.wire import pack
from taskq.errors import BrokerError, BrokerRefusedError, BrokerUnavailableError

T = TypeVar("T")

_PUSHED = (b"message", b"subscribe", b"unsubscribe")
PING_EVERY = 15.0
"""Seconds of silence after which a subscribed connection asks whether the other side lives, or ends."""


class _Call(Patience):
    """Who waits for a reply, and what ends the waiting."""

    __slots__ = ("future", "size", "timer")
    size: int
    future: asyncio.Future[Any]
    timer: asyncio.TimerHandle


class AsyncConnection(asyncio.Protocol):
    """One connection; calls may overlap, replies come in the order of the calls.

    A call that hears nothing for its timeout closes the connection: the peer may be half gone, and a reply that comes
    later must not be taken for another call's. A large request or reply that keeps moving is not late.
    """

    def __init__(self, address: Address, on_push: Callable[[list[bytes]], None] | None = None) -> None:
        self._address = address
        self._on_push = on_push
        self._reader = hiredis.Reader()
        self._waiting: deque[_Call | None] = deque()
        self._earlier: list[Any] = []
        """The replies so far to the commands of :meth:`begin`."""
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        self._loop = asyncio.get_running_loop()
        self._read = 0
        self._written = 0
        self._under_way = 0
        """Bytes of the requests that have no reply yet."""
        self._pinged = -1
        """How much had been read when the other side was asked whether it lives."""
        self.lost = self._loop.create_future()
        """Done when the connection has ended."""

    @classmethod
    async def open(
        cls,
        address: Address,
        timeout: float,
        name: str = "taskq-worker",
        on_push: Callable[[list[bytes]], None] | None = None,
    ) -> AsyncConnection:
        """Connect and greet.

        Raises:
            BrokerUnavailableError: no connection within *timeout* seconds.
            BrokerError: Redis refused the greeting.
        """
        connection = cls(address, on_push)
        try:
            async with asyncio.timeout(timeout):
                await connection._connect()
        except OSError as error:  # TimeoutError is one
            connection.close()
            text = SILENT if isinstance(error, TimeoutError) else reason(error)
            raise BrokerUnavailableError(f"Redis at {address}: {text}") from error
        try:
            for command in address.greeting(name):
                try:
                    await connection.execute(*command, timeout=timeout)
                except BrokerError as error:
                    if command[0] != "CLIENT" or not is_denied(error):  # its name is for people that look at Redis
                        raise
        except BaseException:
            connection.close()
            raise
        siblings.joined(address, connection)
        if on_push is not None:
            connection._look_again()
        return connection

    async def _connect(self) -> None:
        context = self._address.ssl_context()
        sock = self._socket = await adial(self._address)
        try:
            if self._address.path:
                await self._loop.create_unix_connection(lambda: self, sock=sock)
            else:
                hostname = self._address.host if context else None
                await self._loop.create_connection(lambda: self, sock=sock, ssl=context, server_hostname=hostname)
        except BaseException:
            sock.close()
            raise

    async def execute(self, *command: Any, timeout: float) -> Any:
        """Send one command and return its reply, within *timeout* seconds.

        Raises:
            BrokerUnavailableError: the connection ended, or no reply in time. The command may have been executed.
            BrokerError: what else Redis answered.
        """
        return await self._finish(self._send(pack(command), timeout))

    async def run(self, call: Call, timeout: float) -> Any:
        """Run a script, loading it where the server does not know it. Raises as :meth:`execute`."""
        packed = pack(call.command())
        try:
            return await self._finish(self._send(packed, timeout))
        except BrokerRefusedError as error:
            if not is_noscript(error):
                raise
            return await self._finish(self._send(pack(call.command("EVAL")), timeout))

    def send(self, *command: Any) -> None:
        """Send a command whose answers are pushed (SUBSCRIBE)."""
        if self._transport is not None:
            self._transport.write(pack(command))

    def close(self) -> None:
        """Close at once; calls under way fail."""
        if self._transport is not None:
            self._transport.abort()
        if not self.lost.done():
            self.lost.set_result(None)

    def drop(self) -> None:
        """Close the socket when the event loop is closed already; nothing else can be done then."""
        self._transport = None
        if self._socket is not None:
            self._socket.close()

    def shutdown(self) -> None:
        """As :meth:`close`, from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.close)

    @property
    def is_open(self) -> bool:
        """Whether calls can still be made."""
        return self._transport is not None and not self.lost.done()

    def begin(self, *commands: tuple[Any, ...], timeout: float) -> asyncio.Future[list[Any]]:
        """Send two or more commands now, for :meth:`finish`.

        Raises:
            BrokerUnavailableError: the connection has ended.
        """
        return self._send(b"".join(map(pack, commands)), timeout, before=len(commands) - 1)

    async def finish(self, future: asyncio.Future[list[Any]]) -> list[Any]:
        """The replies to what was begun, when all are there. Raises as :meth:`execute`, the first error of them."""
        replies: list[Any] = await self._finish(future)
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise self._refused(reply)
        return replies

    async def pipeline(self, commands: Sequence[Sequence[Any]], timeout: float) -> list[Any]:
        """Send all *commands* at once and return their replies; one that was refused is a :class:`BrokerError` there.

        Raises:
            BrokerUnavailableError: the connection ended, or no reply in time.
        """
        packed = b"".join(pack(tuple(command)) for command in commands)
        reply = await self._raw(self._send(packed, timeout, before=len(commands) - 1))
        replies = reply if len(commands) > 1 else [reply]
        return [self._refused(reply) if isinstance(reply, hiredis.ReplyError) else reply for reply in replies]

    async def _raw(self, future: asyncio.Future[Any]) -> Any:
        try:
            return await future
        except asyncio.CancelledError:
            # the reply may still come: it must find nobody to be mistaken for
            self.close()
            raise

    async def _finish(self, future: asyncio.Future[Any]) -> Any:
        reply = await self._raw(future)
        if isinstance(reply, hiredis.ReplyError):
            raise self._refused(reply)
        return reply

    def _refused(self, reply: hiredis.ReplyError) -> BrokerError:
        return siblings.refused(reply, self._address, self.close)

    def _send(self, packed: bytes, timeout: float, before: int = 0) -> asyncio.Future[Any]:
        """Send; the future of the raw reply.

        Args:
            packed: one command or several.
            timeout: seconds of silence until the connection is given up.
            before: how many replies come before the last one; then the future is of the list of all.

        Raises:
            BrokerUnavailableError: the connection has ended.
        """
        transport = self._transport
        if transport is None or self.lost.done():
            raise BrokerUnavailableError(f"Redis at {self._address}: the connection is closed")
        if before:
            self._waiting.extend([None] * before)
        size = len(packed)
        self._under_way += size
        moved = self._read + self._written
        # little is taken for sent, so that the system need not be asked
        moved += size if self._under_way <= SMALL else -self._unsent()
        call = _Call(timeout, self._under_way, self._loop.time(), moved)
        call.size = size
        call.future = future = self._loop.create_future()
        call.timer = self._loop.call_later(timeout, self._look_at, call)
        self._waiting.append(call)
        self._written += size
        transport.write(packed)
        return future

    def _look_at(self, call: _Call) -> None:
        """A call has waited for long: go on waiting while something moves."""
        if call.future.done():
            return
        waiting = self._unsent()
        left = call.left(self._loop.time(), self._read + self._written - waiting, waiting)
        if left > 0:
            call.timer = self._loop.call_later(left, self._look_at, call)
            return
        _fail(call.future, BrokerUnavailableError(f"Redis at {self._address}: {SILENT}"))
        self.close()

    def _unsent(self) -> int:
        transport = self._transport
        if transport is None or transport.is_closing():
            return 0
        return transport.get_write_buffer_size() + unsent(transport.get_extra_info("socket"))

    def _look_again(self) -> None:
        """Of a subscribed connection: whether the other side lives. A half-open connection looks like a quiet one."""
        if not self.is_open:
            return
        if self._pinged == self._read:
            self.close()
            return
        self._pinged = self._read
        self.send("PING")
        self._loop.call_later(PING_EVERY, self._look_again)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        self._read += len(data)
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                if self._on_push is not None and isinstance(reply, list) and reply[0] in _PUSHED:
                    self._on_push(reply)
                elif self._waiting:
                    self._take(self._waiting.popleft(), reply)
        except hiredis.ProtocolError:
            self.close()  # not a Redis, or a corrupted stream: connection_lost fails the calls

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        error = BrokerUnavailableError(f"Redis at {self._address}: the connection was lost")
        while self._waiting:
            call = self._waiting.popleft()
            if call is not None:
                call.timer.cancel()
                _fail(call.future, error)

    def _take(self, call: _Call | None, reply: Any) -> None:
        if call is None:
            self._earlier.append(reply)
            return
        if self._earlier:
            reply, self._earlier = [*self._earlier, reply], []
        self._under_way -= call.size
        call.timer.cancel()
        if not call.future.done():
            call.future.set_result(reply)


def _fail(future: asyncio.Future[Any], error: BrokerUnavailableError) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # seen: a caller that has gone away must not leave a complaint behind


async def insist(work: Callable[[float], Awaitable[T]], deadline: float) -> T:
    """Do *work*, again while Redis cannot be reached, for at most *deadline* seconds.

    *work* gets the seconds of silence after which a try is given up; it must be safe to repeat.

    Raises:
        BrokerUnavailableError: Redis could not be reached in time.
        BrokerError: Redis answered with an error.
    """
    limit = time.monotonic() + deadline
    pauses = backoff()
    while True:
        try:
            return await work(max(try_until(limit, deadline) - time.monotonic(), 0.001))
        except BrokerUnavailableError as error:
            pause = next(pauses)
            if time.monotonic() + pause >= limit:
                raise gave_up(error, deadline) from None
            await asyncio.sleep(pause)


class AsyncClient:
    """One shared connection of one event loop, opened when needed, for async producers.

    Args:
        address: where Redis is.
        connect_timeout: seconds for one attempt to connect.
    """

    def __init__(self, address: Address, connect_timeout: float) -> None:
        self.address = address
        self._connect_timeout = connect_timeout
        self._connection: AsyncConnection | None = None
        self._opening = asyncio.Lock()

    async def connection(self, timeout: float) -> AsyncConnection:
        """The open connection, within *timeout* seconds.

        Raises:
            BrokerError: it cannot be opened.
        """
        if self._connection is None or not self._connection.is_open:
            async with self._opening:
                if self._connection is None or not self._connection.is_open:
                    limit = min(self._connect_timeout, timeout)
                    self._connection = await AsyncConnection.open(self.address, limit, "taskq-client")
        return self._connection

    async def run(self, call: Call, deadline: float) -> Any:
        """Run one idempotent script call, again after a connection error, for at most *deadline* seconds.

        Raises:
            BrokerUnavailableError: Redis could not be reached in time.
            BrokerError: Redis answered with an error.
        """
        return await insist(lambda silence: self.run_once(call, silence), deadline)

    async def run_once(self, call: Call, silence: float) -> Any:
        """Run a script call, connecting if needed; given up after *silence* seconds. Raises as :meth:`run`."""
        began = time.monotonic()
        connection = await self.connection(silence)
        # a connection stands: that it took long is not silence
        return await connection.run(call, max(silence - (time.monotonic() - began), silence / 2))

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def drop(self) -> None:
        """As :meth:`close`, when the event loop is closed already."""
        if self._connection is not None:
            self._connection.drop()
            self._connection = None
