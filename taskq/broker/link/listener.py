"""Waiting for results: how a published outcome reaches who waits for it.

The order is what makes it safe: first the subscription stands, then the outcome is read and the wait registered in
one script, so an outcome cannot slip between. Pub/sub forgets what it sends while we are away, so after every
reconnect, and on a slow timer, each waiter reads again.

Ordinary code waits on the socket itself, one connection for each thread that waits at the same time: a thread that
received for all would cost every result one more change of threads, a fifth of a whole round trip. On an event loop
one connection serves all waiters.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator

from taskq.broker.link.address import Address
from taskq.broker.link.aio import AsyncConnection
from taskq.broker.link.idle import Idle
from taskq.broker.link.per_loop import PerLoop
from taskq.broker.link.sync import SyncConnection
from taskq.errors import BrokerError, BrokerUnavailableError

REREAD = 2.0
"""Seconds between a waiter's own looks at its outcome."""
UNHEARD = 0.2
"""The same, while there is no subscription."""
_KEPT = 8
"""Connections kept for the next who wait in ordinary code."""

NAME = "taskq-results"


class Listener:
    """The subscription of one waiting thread.

    Args:
        address: where Redis is.
        channel: what to subscribe to; nobody else's.
        connect_timeout: seconds for one attempt to connect.
    """

    def __init__(self, address: Address, channel: bytes, connect_timeout: float) -> None:
        self.channel = channel
        self._connect_timeout = connect_timeout
        self._connection = SyncConnection(address, connect_timeout)
        self._stands = False
        self.idle_since = 0.0

    def subscribe(self) -> None:
        """Make sure that the subscription stands; without one, :meth:`receive` only lets time pass."""
        if not self._stands:
            limit = time.monotonic() + self._connect_timeout
            with contextlib.suppress(BrokerError):
                self._connection.execute("SUBSCRIBE", self.channel, deadline=limit)
                self._stands = True

    def receive(self, task_id: str, timeout: float) -> bytes | None:
        """The outcome of *task_id*, once it is published; None: read it again, after at most *timeout* seconds."""
        if not self._stands:
            time.sleep(min(timeout, UNHEARD))
            return None
        limit = time.monotonic() + timeout
        try:
            while (pushed := self._connection.read_push(max(limit - time.monotonic(), 0.001))) is not None:
                published, _, outcome = pushed[2].partition(b"\n")
                if published == task_id.encode():
                    return outcome or None
        except BrokerUnavailableError:
            self._stands = False
        return None

    def close(self) -> None:
        """End the subscription; it begins again when needed."""
        self._stands = False
        self._connection.close()


class AsyncListener:
    """The subscription of one event loop; parameters as :class:`Listener`."""

    def __init__(self, address: Address, channel: bytes, connect_timeout: float) -> None:
        self.channel = channel
        self._address = address
        self._connect_timeout = connect_timeout
        self._loop = asyncio.get_running_loop()
        self._opening = asyncio.Lock()
        self._connection: AsyncConnection | None = None
        self._confirmed: asyncio.Future[None] = self._loop.create_future()
        self._waiting: dict[str, list[asyncio.Future[bytes | None]]] = {}

    async def subscribe(self) -> None:
        """Make sure that the subscription stands; without one, :meth:`receive` only lets time pass."""
        async with self._opening:
            if self._stands:
                return
            self._confirmed = self._loop.create_future()
            with contextlib.suppress(BrokerError, TimeoutError):
                connection = await AsyncConnection.open(self._address, self._connect_timeout, NAME, self._pushed)
                self._connection = connection
                connection.lost.add_done_callback(lambda _: self._wake_all())
                connection.send("SUBSCRIBE", self.channel)
                async with asyncio.timeout(self._connect_timeout):
                    await asyncio.shield(self._confirmed)

    @property
    def _stands(self) -> bool:
        return self._connection is not None and self._connection.is_open and self._confirmed.done()

    def expect(self, task_id: str) -> asyncio.Future[bytes | None]:
        """What :meth:`receive` waits on; to be made before the outcome is read."""
        future: asyncio.Future[bytes | None] = self._loop.create_future()
        self._waiting.setdefault(task_id, []).append(future)
        return future

    async def receive(self, future: asyncio.Future[bytes | None], timeout: float) -> bytes | None:
        """The outcome, once it is published; None: read it again, after at most *timeout* seconds."""
        await asyncio.wait((future,), timeout=timeout if self._stands else min(timeout, UNHEARD))
        return future.result() if future.done() else None

    def forget(self, task_id: str, future: asyncio.Future[bytes | None]) -> None:
        """Undo :meth:`expect`."""
        futures = self._waiting.get(task_id, [])
        if future in futures:
            futures.remove(future)
        if not futures:
            self._waiting.pop(task_id, None)

    def close(self) -> None:
        """End the subscription; it begins again when needed."""
        if self._connection is not None:
            self._connection.close()

    def drop(self) -> None:
        """As :meth:`close`, when the event loop is closed already."""
        if self._connection is not None:
            self._connection.drop()

    def _pushed(self, push: list[bytes]) -> None:
        if push[0] == b"subscribe" and not self._confirmed.done():
            self._confirmed.set_result(None)
        elif push[0] == b"message":
            task_id, _, outcome = push[2].partition(b"\n")
            self._wake(task_id.decode(), outcome or None)

    def _wake_all(self) -> None:
        for task_id in list(self._waiting):
            self._wake(task_id, None)

    def _wake(self, task_id: str, outcome: bytes | None) -> None:
        for future in self._waiting.pop(task_id, ()):
            if not future.done():
                future.set_result(outcome)


class Listeners:
    """The subscriptions of one process.

    Args:
        address: where Redis is.
        channel_of: the channel name for a client id.
        connect_timeout: seconds for one attempt to connect.
    """

    def __init__(self, address: Address, channel_of: Callable[[str], bytes], connect_timeout: float) -> None:
        self.pid = os.getpid()
        self._address = address
        self._channel_of = channel_of
        self._connect_timeout = connect_timeout
        self._idle: Idle[Listener] = Idle()
        self._loops = PerLoop(self._new_listener, _end, AsyncListener.drop)

    @contextlib.contextmanager
    def borrow(self) -> Iterator[Listener]:
        """A subscription for the calling thread."""
        listener = self._idle.take() or Listener(self._address, self._new_channel(), self._connect_timeout)
        try:
            yield listener
        except BaseException:
            listener.close()  # an interrupt may have left half a reply unread
            raise
        if len(self._idle) < _KEPT:
            self._idle.give(listener)
        else:
            listener.close()

    def of_loop(self) -> AsyncListener:
        """The subscription of the running event loop."""
        return self._loops.get()

    def close(self) -> None:
        """Close what ordinary code has used."""
        self._idle.close()

    def close_loop(self) -> None:
        """Close the subscription of the running event loop."""
        listener = self._loops.pop()
        if listener is not None:
            listener.close()

    def _new_listener(self) -> AsyncListener:
        return AsyncListener(self._address, self._new_channel(), self._connect_timeout)

    def _new_channel(self) -> bytes:
        return self._channel_of(os.urandom(8).hex())


async def _end(listener: AsyncListener) -> None:
    listener.close()
