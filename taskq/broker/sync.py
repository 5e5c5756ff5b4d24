"""The sync driver: what a producer in ordinary code needs, over one socket per concurrent caller.

Written by hand rather than over redis-py's client because it is the path of every ``.delay()``: packing and
parsing are hiredis's C code, and nothing is ever re-sent unless it is idempotent (redis-py's own retries would
send an XADD again after a lost reply).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import hiredis

from taskq import failpoints
from taskq.broker.address import Address
from taskq.broker.replies import broker_error, is_noscript
from taskq.broker.scripts import Call
from taskq.broker.wire import pack
from taskq.errors import BrokerUnavailableError

T = TypeVar("T")


def backoff() -> Iterator[float]:
    """Seconds between tries to reach Redis: the first again at once, then longer, never more than 0.2."""
    yield from (0.0, 0.02, 0.05, 0.1)
    yield from itertools.repeat(0.2)


SHORTEST_TRY = 0.2


def try_until(limit: float, deadline: float) -> float:
    """When to give up one try and open another connection: one that has fallen silent must not use up all the time.

    Args:
        limit: when the call ends, on ``time.monotonic()``.
        deadline: how long it lasts, in seconds; a try lasts a third of it, and at least :data:`SHORTEST_TRY`.
    """
    return min(limit, time.monotonic() + max(deadline / 3, SHORTEST_TRY))


def gave_up(error: BrokerUnavailableError) -> BrokerUnavailableError:
    """The error for a call whose deadline has passed, with what to look at."""
    return BrokerUnavailableError(f"{error} (gave up at the deadline; is Redis running, is broker_url right?)")


class SyncConnection:
    """One socket to Redis, with the producer identity that makes its enqueues idempotent.

    Used by one thread at a time. A sequence number belongs to one logical call and survives reconnects, so that
    a call whose reply was lost can be sent again: the script answers without writing twice.
    """

    def __init__(self, address: Address, connect_timeout: float) -> None:
        self.producer = os.urandom(8).hex().encode()
        self._address = address
        self._connect_timeout = connect_timeout
        self._sequence = 0
        self._socket: socket.socket | None = None
        self._reader = hiredis.Reader()

    def renew_identity(self) -> None:
        """Count anew under another id: the old one is kept elsewhere, with a call that will be sent again."""
        self.producer = os.urandom(8).hex().encode()
        self._sequence = 0

    def next_sequence(self) -> int:
        """A number above all before it, for one enqueue call and its retries."""
        self._sequence += 1
        return self._sequence

    def execute(self, *command: Any, deadline: float) -> Any:
        """Send one command and return its reply; *deadline* is on ``time.monotonic()``.

        Raises:
            BrokerUnavailableError: no connection, or no reply in time. The command may have been executed.
            BrokerError: what else Redis answered.
        """
        reply = self._exchange(pack(command), deadline)
        if isinstance(reply, hiredis.ReplyError):
            raise broker_error(reply)
        return reply

    def run(self, call: Call, deadline: float) -> Any:
        """Run a script, loading it where the server does not know it. Raises as :meth:`execute`."""
        reply = self._exchange(pack(call.command()), deadline)
        if is_noscript(reply):
            reply = self._exchange(pack(call.command("EVAL")), deadline)
        if isinstance(reply, hiredis.ReplyError):
            raise broker_error(reply)
        return reply

    def run_all(self, calls: Sequence[Call], deadline: float) -> list[Any]:
        """Run scripts in one round trip, and a second one for those that the server does not know.

        Returns and raises as :meth:`pipeline`.
        """
        replies = self.pipeline([call.command() for call in calls], deadline)
        unknown = [number for number, reply in enumerate(replies) if is_noscript(reply)]
        again = self.pipeline([calls[number].command("EVAL") for number in unknown], deadline)
        for number, reply in zip(unknown, again, strict=True):
            replies[number] = reply
        return replies

    def pipeline(self, commands: Sequence[Sequence[Any]], deadline: float) -> list[Any]:
        """Send all *commands* at once and return their replies; one that was refused is a :class:`BrokerError` there.

        Raises:
            BrokerUnavailableError: no connection, or not all replies in time.
        """
        packed = b"".join(pack(tuple(command)) for command in commands)
        replies = self._exchange_many(packed, len(commands), deadline) if commands else []
        return [broker_error(reply) if isinstance(reply, hiredis.ReplyError) else reply for reply in replies]

    def close(self) -> None:
        """Close the socket; the next call opens a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._reader = hiredis.Reader()

    def __del__(self) -> None:
        # an app that nobody closes must not complain when it goes
        with contextlib.suppress(Exception):
            self.close()

    def push(self, *command: Any) -> None:
        """Send a command whose answer is read with :meth:`read_push`.

        Raises:
            BrokerUnavailableError: the connection is gone.
        """
        try:
            if self._socket is None:
                raise ConnectionResetError("the connection is closed")
            self._socket.sendall(pack(command))
        except OSError as error:
            self.close()
            raise BrokerUnavailableError(f"Redis at {self._address}: {error}") from error

    def read_push(self, timeout: float) -> Any:
        """The next message of a subscribed connection; None after *timeout* seconds without one.

        Raises:
            BrokerUnavailableError: the connection is gone.
        """
        try:
            if self._socket is None:
                raise ConnectionResetError("the connection is closed")
            self._socket.settimeout(timeout)
            return self._read(self._socket)
        except TimeoutError:
            return None
        except (OSError, hiredis.ProtocolError) as error:
            self.close()
            raise BrokerUnavailableError(f"Redis at {self._address}: {error}") from error

    def shutdown(self) -> None:
        """End the connection from another thread: a read under way returns."""
        sock = self._socket
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _exchange(self, packed: bytes, deadline: float) -> Any:
        return self._exchange_many(packed, 1, deadline)[0]

    def _exchange_many(self, packed: bytes, count: int, deadline: float) -> list[Any]:
        try:
            sock = self._socket or self._connect(deadline)
            sock.settimeout(max(deadline - time.monotonic(), 0.001))
            sock.sendall(packed)
            if failpoints.ARMED:
                failpoints.hit("sync.sent")
            return [self._read(sock) for _ in range(count)]
        except OSError as error:
            self.close()
            raise BrokerUnavailableError(f"Redis at {self._address}: {error or type(error).__name__}") from error
        except hiredis.ProtocolError as error:
            self.close()
            raise BrokerUnavailableError(f"what answers at {self._address} is no Redis: {error}") from error
        except BaseException:
            # an interrupt between send and reply: the next caller must not read this call's answer
            self.close()
            raise

    def _read(self, sock: socket.socket) -> Any:
        reader = self._reader
        while (reply := reader.gets()) is False:
            data = sock.recv(65536)
            if not data:
                raise ConnectionResetError("the connection was closed by Redis")
            reader.feed(data)
        return reply

    def _connect(self, deadline: float) -> socket.socket:
        address = self._address
        timeout = max(min(self._connect_timeout, deadline - time.monotonic()), 0.001)
        if address.path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            sock = socket.create_connection((address.host, address.port), timeout)
        try:
            sock.settimeout(timeout)
            if address.path:
                sock.connect(address.path)
            else:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            context = address.ssl_context()
            if context is not None:
                sock = context.wrap_socket(sock, server_hostname=address.host)
            for command in address.greeting("taskq-client"):
                sock.sendall(pack(command))
                reply = self._read(sock)
                if isinstance(reply, hiredis.ReplyError):
                    raise broker_error(reply)
        except BaseException:
            sock.close()
            self._reader = hiredis.Reader()
            raise
        self._socket = sock
        return sock


class SyncBroker:
    """A pool of connections, and retries up to a deadline.

    Args:
        address: where Redis is.
        connect_timeout: seconds for one attempt to connect.
        deadline: seconds for one call, reconnects included.
    """

    def __init__(self, address: Address, connect_timeout: float, deadline: float) -> None:
        self.address = address
        self._connect_timeout = connect_timeout
        self._deadline = deadline
        self._idle: deque[SyncConnection] = deque()
        self._owner = os.getpid()
        self._fork_lock = threading.Lock()

    def call(self, work: Callable[[SyncConnection, float], T], *, deadline: float | None = None) -> T:
        """Run *work* on a connection of its own, again after a connection error, until the deadline.

        *work* gets the connection and the end of this try on ``time.monotonic()``; it must be safe to repeat.

        Raises:
            BrokerUnavailableError: Redis could not be reached in time.
            BrokerError: Redis answered with an error.
        """
        deadline = self._deadline if deadline is None else deadline
        limit = time.monotonic() + deadline
        connection = self._take()
        pauses = backoff()
        try:
            while True:
                try:
                    return work(connection, try_until(limit, deadline))
                except BrokerUnavailableError as error:
                    pause = next(pauses)
                    if time.monotonic() + pause >= limit:
                        raise gave_up(error) from error
                    time.sleep(pause)
        finally:
            self._idle.append(connection)

    def run(self, call: Call, *, deadline: float | None = None) -> Any:
        """Run one idempotent script call."""
        return self.call(lambda connection, limit: connection.run(call, limit), deadline=deadline)

    def execute(self, *command: Any, deadline: float | None = None) -> Any:
        """Run one idempotent command."""
        return self.call(lambda connection, limit: connection.execute(*command, deadline=limit), deadline=deadline)

    def pipeline(self, commands: Sequence[Sequence[Any]], *, deadline: float | None = None) -> list[Any]:
        """Run idempotent commands in one round trip; see :meth:`SyncConnection.pipeline`."""
        return self.call(lambda connection, limit: connection.pipeline(commands, limit), deadline=deadline)

    def close(self) -> None:
        """Close every idle connection."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> SyncConnection:
        if self._owner != os.getpid():
            self._forget_inherited()
        try:
            return self._idle.pop()
        except IndexError:
            return SyncConnection(self.address, self._connect_timeout)

    def _forget_inherited(self) -> None:
        # after a fork the sockets (and sequence numbers) belong to the parent: sharing them would mix replies
        with self._fork_lock:
            if self._owner != os.getpid():
                self.close()
                self._owner = os.getpid()
