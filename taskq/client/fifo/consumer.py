"""The consumers of this process: a source, its connection, and the thread that keeps its lease."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from taskq.broker import scripts
from taskq.broker.calls import Call
from taskq.broker.keeper import LeaseKeeper
from taskq.broker.keys import QueueKeys
from taskq.broker.link.sync import SyncConnection
from taskq.broker.steps import AsyncDriver, SyncDriver
from taskq.client.fifo.counts import Counts
from taskq.client.fifo.received import Received
from taskq.client.fifo.source import Source
from taskq.errors import BrokerError, QueueEmptyError

if TYPE_CHECKING:
    from taskq.client.app.passing import Passing

logger = logging.getLogger("taskq.fifo")

TURN = 0.02
"""Seconds between two looks of who has waited long enough, while another thread or coroutine receives."""

PARTING = 1.0
"""Longest seconds in which a receipt that was cancelled gives back what it may have taken, before it ends."""

FAREWELL = 3.0
"""Longest seconds for each call of a consumer that ends: else its lease runs out."""


class Consumer(ABC):
    """What both kinds have in common; each process, and each event loop, has one for each FIFO that it receives from.

    Args:
        app: for the connections and settings.
        keys: of the FIFO's queue.
        prefetch: how many items to hold beyond those that were asked for.
    """

    def __init__(self, app: Passing, keys: QueueKeys, prefetch: int) -> None:
        self.app = app
        self.pid = os.getpid()
        self.source = Source(keys, app.keys.queues, app.config, prefetch, self._keep)
        self.counts = Counts(keys, self.source.consumer)
        self._keeper = LeaseKeeper(
            app.address,
            app.config,
            [self.source],
            lambda: self.source.registered,
            self.source.lose,
            lambda _queue, _moved: None,
            self._beside,
            lambda _seconds: None,
        )
        self.counts.news = self._keeper.wake
        self._kept = False
        self._closed = False
        self._closing = threading.Lock()

    def close(self) -> None:
        """End: what is held and not settled goes back to the front at once, and no crash is counted."""
        with self._closing:
            if self._closed or self.pid != os.getpid():
                return  # after a fork the lease is the parent's
            self._closed = self.source.closed = True
        atexit.unregister(self.close)
        self._disconnect()
        if self._kept:
            self._keeper.stop()
        try:
            if self.source.registered:
                more = 1
                while more:
                    call = scripts.recover(self.source.keys, self.source.streams, self.source.consumer, 0)
                    moved, more, _, _ = self._last(call)
                    more = more and moved
            self.counts.write(self._last, float("inf"), 0.0)
        except BrokerError as error:
            logger.warning(
                "%s: could not give back what was held (%s); its lease will run out", self.source.queue, error
            )

    def _last(self, call: Call) -> Any:
        return self.app.sync_broker.run(call, deadline=FAREWELL)

    def _keep(self) -> None:
        """There is a lease: have it renewed from now on."""
        if not self._kept:
            self._kept = True
            self._keeper.start()
            atexit.register(self.close)

    @abstractmethod
    def _disconnect(self) -> None:
        """Close the connection, from any thread: a receiver that waits ends."""

    def _beside(self, connection: SyncConnection, now: float) -> float:
        """What is done from the keeper's thread; seconds until the next call."""
        lease = self.app.config.lease_timeout
        try:
            return self.counts.write(lambda call: connection.run(call, now + min(1.0, lease / 6)), now, lease)
        except BrokerError as error:
            logger.debug("%s: cannot write counts: %s", self.source.queue, error)
            return lease

    def _empty(self) -> QueueEmptyError:
        return QueueEmptyError(f"{self.source.queue} had no item in time")


class SyncConsumer(Consumer):
    """Receives in ordinary code, for any number of threads. Parameters as :class:`Consumer`."""

    def __init__(self, app: Passing, keys: QueueKeys, prefetch: int) -> None:
        super().__init__(app, keys, prefetch)
        self._driver = SyncDriver(app.address, app.config.broker_connection_timeout, app.config.broker_deadline)

    def receive(self, limit: float) -> Received:
        """The next item, by *limit* on ``time.monotonic()``.

        Raises:
            QueueEmptyError: there was none.
            QueueClosedError, BrokerError: as :meth:`Source.receive`.
        """
        turn = self._driver.turn
        while not turn.acquire(timeout=min(max(limit - time.monotonic(), TURN), threading.TIMEOUT_MAX)):
            # the other thread may just be taking one of many: only a read that waits says that there is none
            if self.source.waiting and time.monotonic() >= limit:
                raise self._empty()
        try:
            received = self._driver.run(self.source.receive(limit))
        finally:
            turn.release()
        if received is None:
            raise self._empty()
        return received

    def _disconnect(self) -> None:
        self._driver.close()


class AsyncConsumer(Consumer):
    """Receives on the running event loop, for any number of coroutines. Parameters as :class:`Consumer`."""

    def __init__(self, app: Passing, keys: QueueKeys, prefetch: int) -> None:
        super().__init__(app, keys, prefetch)
        self._loop = asyncio.get_running_loop()
        self._driver = AsyncDriver(app.address, app.config.broker_connection_timeout, app.config.broker_deadline)

    async def receive(self, limit: float) -> Received:
        """As :meth:`SyncConsumer.receive`, without blocking the event loop."""
        turn = self._driver.turn
        while not await self._take_turn(limit):
            if self.source.waiting and time.monotonic() >= limit:
                raise self._empty()
        try:
            received = await self._driver.run(self.source.receive(limit))
        except asyncio.CancelledError:
            await self._give_back()
            raise
        finally:
            turn.release()
        if received is None:
            raise self._empty()
        return received

    async def _take_turn(self, limit: float) -> bool:
        if not self._driver.turn.locked():
            return await self._driver.turn.acquire()
        wait = max(limit - time.monotonic(), TURN)
        try:
            async with asyncio.timeout(None if wait == float("inf") else wait):
                return await self._driver.turn.acquire()
        except TimeoutError:
            return False

    async def _give_back(self) -> None:
        """Done here and by no task of its own, and nothing is left open: the event loop may be ending."""
        with contextlib.suppress(BrokerError, TimeoutError):
            async with asyncio.timeout(PARTING):
                await self._driver.run(self.source.give_back_unseen())
        self._driver.hang_up()

    def disconnect(self) -> None:
        """On the loop: a receiver that waits ends now, before what is held is given back."""
        self.source.closed = True
        self._driver.close()

    async def end(self) -> None:
        """On the loop, as it ends: nobody can receive or settle here any more."""
        self.disconnect()
        if not self._closed:
            await asyncio.to_thread(self.close)

    def drop(self) -> None:
        """When the loop is closed already: close the connection. The keeper's thread sees it and does the rest."""
        self._driver.drop()

    def _disconnect(self) -> None:
        if not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # it has closed just now
                self._loop.call_soon_threadsafe(self._driver.close)

    def _beside(self, connection: SyncConnection, now: float) -> float:
        if self._loop.is_closed():
            self.close()  # nobody can receive or settle here any more
            return 0.0
        return super()._beside(connection, now)
