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
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import hiredis

from taskq import failpoints
from taskq.broker.calls import Call
from taskq.broker.link import siblings
from taskq.broker.link.address import Address
from taskq.broker.link.dial import dial
from taskq.broker.link.idle import Idle
from taskq.broker.link.patience import SMALL, Patience, unsent
from taskq.broker.link.replies import broker_error, is_denied, is_noscript
from taskq.broker.link.wire import pack
from taskq.errors import BrokerError, BrokerUnavailableError

T = TypeVar("T")


def backoff() -> Iterator[float]:
    """Seconds between tries to reach Redis: the first again at once, then longer, never more than 0.2."""
    yield from (0.0, 0.02, 0.05, 0.1)
    yield from itertools.repeat(0.2)


SHORTEST_TRY = 0.2
ROLE_EVERY = 15.0
"""Seconds after which a connection asks, beside a call, whether its server is still the master: one that only reads
would not notice a failover."""


def try_until(limit: float, deadline: float) -> float:
    """When to give up one try and open another connection: one that has fallen silent must not use up all the time.

    Args:
        limit: when the call ends, on ``time.monotonic()``.
        deadline: how long it lasts, in seconds; a try lasts a third of it, and at least :data:`SHORTEST_TRY`.
    """
    return min(limit, time.monotonic() + max(deadline / 3, SHORTEST_TRY))


SILENT = "no answer"
"""What an error says of a peer that did not answer."""


def gave_up(error: BrokerUnavailableError, deadline: float) -> BrokerUnavailableError:
    """The error for a call whose *deadline* (seconds) has passed, with what to look at."""
    text = f"{error} for {deadline:g} s" if str(error).endswith(SILENT) else f"{error}; tried for {deadline:g} s"
    hint = ". Is Redis running? Check TASKQ_BROKER_URL" if text.startswith("Redis at") else ""
    return type(error)(text + hint)


class SyncConnection:
    """One socket to Redis, with the producer identity that makes its enqueues idempotent.

    Used by one thread at a time. A sequence number belongs to one logical call and survives reconnects, so that
    a call whose reply was lost can be sent again: the script answers without writing twice.
    """

    def __init__(self, address: Address, connect_timeout: float) -> None:
        self.producer = os.urandom(8).hex().encode()
        self._address = address
        self._connect_timeout = connect_timeout
        self.idle_since = 0.0
        self._sequence = 0
        self._socket: socket.socket | None = None
        self._reader = hiredis.Reader()
        self._moved = 0
        """Bytes read and handed over since it was made."""
        self._ask_role_at = 0.0

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
            raise self._refused(reply)
        return reply

    def run(self, call: Call, deadline: float) -> Any:
        """Run a script, loading it where the server does not know it. Raises as :meth:`execute`."""
        reply = self._exchange(pack(call.command()), deadline)
        if is_noscript(reply):
            reply = self._exchange(pack(call.command("EVAL")), deadline)
        if isinstance(reply, hiredis.ReplyError):
            raise self._refused(reply)
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
        return [self._refused(reply) if isinstance(reply, hiredis.ReplyError) else reply for reply in replies]

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
                # not TLS's own: between its two steps another thread's bytes would go out in the clear
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _refused(self, reply: hiredis.ReplyError) -> BrokerError:
        return siblings.refused(reply, self._address, self.close)

    def _exchange(self, packed: bytes, deadline: float) -> Any:
        return self._exchange_many(packed, 1, deadline)[0]

    def _exchange_many(self, packed: bytes, count: int, deadline: float) -> list[Any]:
        began = time.monotonic()
        silence = max(deadline - began, 0.001)
        try:
            sock = self._socket
            if sock is None:
                sock = self._connect(deadline)
                began = time.monotonic()
                silence = max(deadline - began, silence / 2)  # a connection stands: that it took long is not silence
            asks = began > self._ask_role_at
            if asks:
                packed, count = packed + _ROLE, count + 1
            sock.settimeout(silence)
            if len(packed) <= SMALL:
                sock.sendall(packed)
                self._moved += len(packed)
                patience = Patience(silence, len(packed), began, self._moved)
            else:
                patience = Patience(silence, len(packed), began, self._moved)
                self._send_large(sock, packed, patience)
                self._moved += len(packed)
            if failpoints.ARMED:
                failpoints.hit("sync.sent")
            replies = [self._read(sock, patience) for _ in range(count)]
        except BrokerError:
            self.close()
            raise
        except TimeoutError as error:
            self.close()
            raise BrokerUnavailableError(f"Redis at {self._address}: {SILENT}") from error
        except OSError as error:
            self.close()
            raise BrokerUnavailableError(f"Redis at {self._address}: {reason(error)}") from error
        except hiredis.ProtocolError as error:
            self.close()
            raise BrokerUnavailableError(f"what answers at {self._address} is not Redis: {error}") from error
        except BaseException:
            # an interrupt between send and reply: the next caller must not read this call's answer
            self.close()
            raise
        if asks:
            self._note_role(replies.pop())
        return replies

    def _note_role(self, role: Any) -> None:
        """Leave a server that is not the master (any more). What it has answered is taken: a reader may want that."""
        self._ask_role_at = time.monotonic() + ROLE_EVERY
        if isinstance(role, hiredis.ReplyError):
            self._ask_role_at = float("inf")  # not allowed, or unknown there
        elif isinstance(role, list) and role and role[0] == b"slave":
            self.close()
            siblings.close_all(self._address)

    def _send_large(self, sock: socket.socket, packed: bytes, patience: Patience) -> None:
        """Send more than one write takes; ends only when nothing moves."""
        rest = memoryview(packed)
        while rest:
            try:
                rest = rest[sock.send(rest[:SMALL]) :]
            except TimeoutError:
                self._wait_on(sock, patience, len(packed) - len(rest))

    def _read(self, sock: socket.socket, patience: Patience | None = None) -> Any:
        """The next reply; with *patience*, a reply that keeps arriving is not late."""
        reader = self._reader
        reply = reader.gets()
        while reply is False:
            try:
                data = sock.recv(65536)
            except TimeoutError:
                if patience is None:
                    raise
                self._wait_on(sock, patience, 0)
                continue
            if not data:
                raise ConnectionResetError("the connection was closed by Redis")
            reader.feed(data)
            self._moved += len(data)
            reply = reader.gets()
            if reply is False and patience is not None and patience.left(time.monotonic(), self._moved, 0) <= 0:
                raise TimeoutError
        return reply

    def _wait_on(self, sock: socket.socket, patience: Patience, sent: int) -> None:
        """After a silence of the socket: have it wait on, or give up."""
        waiting = unsent(sock)
        left = patience.left(time.monotonic(), self._moved + sent - waiting, waiting)
        if left <= 0:
            raise TimeoutError
        sock.settimeout(left)

    def _connect(self, deadline: float) -> socket.socket:
        address = self._address
        timeout = max(min(self._connect_timeout, deadline - time.monotonic()), 0.001)
        sock = dial(address, timeout)
        try:
            context = address.ssl_context()
            if context is not None:
                sock = context.wrap_socket(sock, server_hostname=address.host)
            for command in address.greeting("taskq-client"):
                sock.sendall(pack(command))
                reply = self._read(sock)
                if isinstance(reply, hiredis.ReplyError) and not (command[0] == "CLIENT" and is_denied(reply)):
                    raise broker_error(reply)  # the name is for people that look at Redis
        except BaseException:
            sock.close()
            self._reader = hiredis.Reader()
            raise
        self._socket = sock
        self._ask_role_at = time.monotonic() + ROLE_EVERY
        siblings.joined(address, self)
        return sock


_ROLE = pack(("ROLE",))


def reason(error: OSError) -> str:
    """What an error of the operating system says, without its number."""
    return error.strerror or str(error) or type(error).__name__


class SyncBroker:
    """A pool of connections, one for each call at a time, and retries up to a deadline.

    Args:
        address: where Redis is.
        connect_timeout: seconds for one attempt to connect.
        deadline: seconds for one call, reconnects included.
    """

    def __init__(self, address: Address, connect_timeout: float, deadline: float) -> None:
        self.address = address
        self._connect_timeout = connect_timeout
        self._deadline = deadline
        self._idle: Idle[SyncConnection] = Idle()
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
                        raise gave_up(error, deadline) from None
                    time.sleep(pause)
        finally:
            self._idle.give(connection)

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
        self._idle.close()

    def _take(self) -> SyncConnection:
        if self._owner != os.getpid():
            self._forget_inherited()
        return self._idle.take() or SyncConnection(self.address, self._connect_timeout)

    def _forget_inherited(self) -> None:
        # after a fork the sockets (and sequence numbers) belong to the parent: sharing them would mix replies
        with self._fork_lock:
            if self._owner != os.getpid():
                self.close()
                self._owner = os.getpid()
