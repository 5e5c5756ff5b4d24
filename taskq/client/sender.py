"""The sending side of one app in one process: connections, and what happens when Redis cannot be reached."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Sequence

from taskq import failpoints
from taskq.broker.keys import Keys
from taskq.broker.link.address import Address
from taskq.broker.link.aio import AsyncClient
from taskq.broker.link.per_loop import PerLoop
from taskq.broker.link.sync import SyncBroker
from taskq.broker.producer import (
    AsyncProducer,
    Attempt,
    Names,
    Outgoing,
    Sendable,
    once_plan,
    pages,
    plan,
    send_sync,
)
from taskq.broker.scripts import MAX_PER_CALL
from taskq.client.spool import Flusher, Spool
from taskq.errors import BrokerUnavailableError
from taskq.values.config import Config

logger = logging.getLogger("taskq.sender")

_Pair = tuple[AsyncClient, AsyncProducer]

LOG_EVERY = 1.0
"""Seconds between log lines about messages that were dropped or spooled."""


class Sender:
    """Sends messages from ordinary code and from event loops.

    Args:
        address: where Redis is.
        config: for timeouts and the spool.
        keys: of the namespace.
    """

    def __init__(self, address: Address, config: Config, keys: Keys) -> None:
        self._address = address
        self._config = config
        self._names = Names(keys)
        self._loops = PerLoop(self._new_pair, _end, _drop)
        self.broker = SyncBroker(address, config.broker_connection_timeout, config.broker_deadline)
        """The connections of ordinary code."""
        self.dropped = 0
        """Messages of ``when_unavailable="drop"`` tasks that were let go."""
        self.spooled = 0
        """Messages that went to the spool."""
        self._logged_at = 0.0
        self.spool: Spool | None = None
        if config.spool_path is not None:
            self.spool = Spool(config.spool_path, config.spool_limit)
            self._flusher = Flusher(self.spool, self.broker, keys)
            if len(self.spool):  # left by a process that ended before Redis was back
                self._flusher.start()
            else:
                self.spool.close()

    def send(self, messages: Sequence[Sendable]) -> None:
        """Send from ordinary code.

        Raises:
            BrokerError: a page was not accepted in time (or not kept: the spool is full).
        """
        for page in pages(messages) if len(messages) != 1 else (messages,):
            if self._behind_spool(page):
                continue
            if failpoints.ARMED:
                failpoints.hit("send.page")
            send_sync(self.broker, page, None if page[0].fallback == "raise" else self._undelivered, self._names)
            if failpoints.ARMED:
                failpoints.hit("send.accepted")

    def send_attempts(self, attempts: deque[Attempt]) -> None:
        """Send from ordinary code, and take out of *attempts* what was accepted. Raises as :meth:`send`."""
        while attempts:
            first = attempts[0]
            with first:
                if first.identity is not None:
                    self._send_again(first.page, *first.identity)
                elif not self._behind_spool(first.page):
                    send_sync(self.broker, first.page, self._undelivered, self._names)
            attempts.popleft()

    async def asend_attempts(self, attempts: deque[Attempt]) -> None:
        """As :meth:`send_attempts`, from the running event loop."""
        producer = self._loops.get()[1]
        while attempts:
            first = attempts[0]
            with first:
                if first.identity is not None:
                    await asyncio.to_thread(self._send_again, first.page, *first.identity)
                elif self.spool is None or not await asyncio.to_thread(self._behind_spool, first.page):
                    await producer.send_page(first.page)
            attempts.popleft()

    def _send_again(self, page: Sequence[Sendable], producer: bytes, sequence: int) -> None:
        try:
            self.broker.run(plan(page)(producer, sequence))
        except BrokerUnavailableError:
            if not self._undelivered(producer, sequence, page):
                raise

    def send_once(self, messages: Sequence[Outgoing]) -> int:
        """Send messages that have ids of the user's, a thousand to a round trip; how many were new.

        They are not spooled or dropped, whatever their tasks say: sending them again is safe.

        Raises:
            BrokerError: a page was not accepted in time.
        """
        new = 0
        by_queue: dict[str, list[Outgoing]] = {}
        for message in messages:
            by_queue.setdefault(message.keys.queue, []).append(message)
        for group in by_queue.values():
            if not self._names.known(group[0]):
                self._announce(group[0])
            for start in range(0, len(group), MAX_PER_CALL):
                new += self.broker.run(once_plan(group[start : start + MAX_PER_CALL]))
        return new

    async def asend(self, message: Sendable) -> None:
        """Send one message from the running event loop. Raises as :meth:`send`."""
        if self.spool is not None and await asyncio.to_thread(self._behind_spool, (message,)):
            return
        await self._loops.get()[1].send(message)

    async def asend_many(self, messages: Sequence[Sendable]) -> None:
        """Send many messages from the running event loop. Raises as :meth:`send`."""
        producer = self._loops.get()[1]
        for page in pages(messages):
            if self.spool is not None and await asyncio.to_thread(self._behind_spool, page):
                continue
            await producer.send_page(page)

    @property
    def client(self) -> AsyncClient:
        """The connection of the running event loop."""
        return self._loops.get()[0]

    def close(self) -> None:
        """Close the connections of ordinary code; what is spooled stays on disk."""
        if self.spool is not None:
            self._flusher.stop()
            self.spool.close()
        self.broker.close()

    def close_loop(self) -> None:
        """Close the connection of the running event loop."""
        pair = self._loops.pop()
        if pair is not None:
            pair[0].close()

    def _new_pair(self) -> _Pair:
        client = AsyncClient(self._address, self._config.broker_connection_timeout)
        return client, AsyncProducer(client, self._config.broker_deadline, self._undelivered, self._names)

    def _announce(self, message: Outgoing) -> None:
        self.broker.call(lambda connection, limit: self._names.tell(connection, message, limit))

    def _behind_spool(self, page: Sequence[Sendable]) -> bool:
        """While older messages wait in the spool, newer ones queue behind them."""
        if self.spool is None or page[0].fallback != "spool" or not self._flusher.busy:
            return False
        self._keep(os.urandom(8).hex().encode(), 1, page)
        return True

    def _undelivered(self, producer: bytes, sequence: int, page: Sequence[Sendable]) -> bool:
        """Redis cannot be reached: whether *page* is taken care of. Its identity must not be used again."""
        if page[0].fallback == "drop":
            self.dropped += len(page)
            self._report("dropped %d messages so far: Redis cannot be reached", self.dropped)
            return True
        if page[0].fallback == "spool" and self.spool is not None:
            self._keep(producer, sequence, page)
            return True
        return False

    def _keep(self, producer: bytes, sequence: int, page: Sequence[Sendable]) -> None:
        assert self.spool is not None
        if failpoints.ARMED:
            failpoints.hit("spool.keep")
        self.spool.add(producer, sequence, [message for message in page if isinstance(message, Outgoing)])
        if failpoints.ARMED:
            failpoints.hit("spool.kept")
        self.spooled += len(page)
        self._flusher.start()
        self._report("spooled %d messages so far: Redis cannot be reached", self.spooled)

    def _report(self, text: str, count: int) -> None:
        if time.monotonic() - self._logged_at >= LOG_EVERY:
            self._logged_at = time.monotonic()
            logger.warning(text, count)


async def _end(pair: _Pair) -> None:
    pair[0].close()


def _drop(pair: _Pair) -> None:
    pair[0].drop()
