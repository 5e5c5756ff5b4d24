"""The FIFO as its users see it: put, get, and looking."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from taskq.broker.link.per_loop import PerLoop
from taskq.broker.producer import Outgoing
from taskq.broker.views.survey import read_queue
from taskq.client.fifo.consumer import AsyncConsumer, Consumer, SyncConsumer
from taskq.client.fifo.item import Item
from taskq.client.fifo.received import packed
from taskq.errors import QueueClosedError
from taskq.values.checks import check_count, check_items
from taskq.values.config import FIFO, check_name
from taskq.values.durations import Duration, seconds
from taskq.values.message import DEFAULT_PRIORITY

if TYPE_CHECKING:
    from taskq.client.app.passing import Passing

MAX_PREFETCH = 1000


class Fifo:
    """A FIFO between programs; made by ``app.queue(name)``.

    Every item is handed to one consumer, which has a lease on it until it settles it. Threads and coroutines may share
    one object. What was put first is received first; only what comes back from a consumer goes to the front.
    """

    def __init__(self, app: Passing, name: str, prefetch: int = 0) -> None:
        check_name(name, "a FIFO's name")
        check_count(prefetch, "prefetch", 0, MAX_PREFETCH)
        self.name = name
        self._app = app
        self._prefetch = prefetch
        self._keys = app.keys.queue(FIFO + name)
        self._fallback = "spool" if app.config.spool_path else "raise"
        self._loops = PerLoop(self._new_consumer, AsyncConsumer.end, AsyncConsumer.drop)
        self._own: SyncConsumer | None = None
        self._lock = threading.Lock()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it was closed in this process."""
        return self._closed

    def __repr__(self) -> str:
        return f"<Fifo {self.name}>"

    def put(self, value: Any) -> str:
        """Put *value* at the end; its item's id.

        Args:
            value: plain data, as the arguments of a task.

        Raises:
            SerializationError: the value has no wire form.
            QueueClosedError: the FIFO was closed here.
            BrokerError: Redis did not accept it within ``broker_deadline``. After BrokerUnavailableError it may or
                may not be there, but never twice.
        """
        item_id, message = self._message(value)
        self._app.send((message,))
        return item_id

    async def aput(self, value: Any) -> str:
        """As :meth:`put`, without blocking the event loop. Concurrent calls leave together."""
        item_id, message = self._message(value)
        await self._app.asend(message)
        return item_id

    def put_many(self, values: Iterable[Any]) -> int:
        """Put many values in order, a thousand to a round trip; how many there were.

        Raises:
            ConfigError: *values* is text, bytes or a mapping: that is one value.
            SerializationError: a value has no wire form; then none is put.
            QueueClosedError: as :meth:`put`.
            BrokerError: Redis did not accept a page in time; pages before it were accepted.
        """
        messages = [self._message(value)[1] for value in check_items(values, "values")]
        self._app.send(messages)
        return len(messages)

    async def aput_many(self, values: Iterable[Any]) -> int:
        """As :meth:`put_many`, without blocking the event loop."""
        messages = [self._message(value)[1] for value in check_items(values, "values")]
        await self._app.asend_many(messages)
        return len(messages)

    def get(self, timeout: Duration | None = None) -> Item:
        """Wait for the next item and take it.

        Args:
            timeout: how long to wait, to about 0.1 s; None waits for as long as it takes, 0 only looks.

        Raises:
            QueueEmptyError: there was none in time. It is a TimeoutError, and a ``queue.Empty``.
            QueueClosedError: the FIFO was closed here, before or meanwhile.
            ConfigError: a timeout below zero, or none at all.
            BrokerError: Redis refused, or could not be asked for longer than ``broker_deadline``.
        """
        limit = _limit(timeout)
        consumer = self._of_process()
        return Item(consumer, consumer.receive(limit))

    async def aget(self, timeout: Duration | None = None) -> Item:
        """As :meth:`get`, without blocking the event loop. May be cancelled: then it takes nothing."""
        limit = _limit(timeout)
        consumer = self._of_loop()
        return Item(consumer, await consumer.receive(limit))

    def __iter__(self) -> Iterator[Item]:
        """Item after item, waiting for each; ends when the FIFO is closed here. Settle each one yourself."""
        with contextlib.suppress(QueueClosedError):
            while True:
                yield self.get()

    async def __aiter__(self) -> AsyncIterator[Item]:
        """As ``for item in queue``, without blocking the event loop."""
        try:
            while True:
                yield await self.aget()
        except QueueClosedError:
            return

    def size(self) -> int:
        """How many items wait that no consumer has."""
        return read_queue(self._app.sync_broker.execute, self._keys).stats.lag

    async def asize(self) -> int:
        """As :meth:`size`, without blocking the event loop."""
        return await asyncio.to_thread(self.size)

    def __len__(self) -> int:
        return self.size()

    def __bool__(self) -> bool:
        return True  # an empty FIFO is one too: `if queue` must not ask Redis

    def purge(self) -> int:
        """Drop the items that wait; how many. What a consumer has is not touched."""
        return self._app.purge(self._keys.queue)

    async def apurge(self) -> int:
        """As :meth:`purge`, without blocking the event loop."""
        return await asyncio.to_thread(self.purge)

    def close(self) -> None:
        """Stop receiving: a ``get`` that waits ends, and what is not settled goes back to the front at once."""
        with self._lock:
            self._closed = True
            consumers: list[Consumer] = list(self._loops.values())
            if self._own is not None:
                consumers.append(self._own)
        for consumer in consumers:
            consumer.close()

    async def aclose(self) -> None:
        """As :meth:`close`, without blocking the event loop."""
        own = self._loops.known()
        if own is not None:
            own.disconnect()
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Fifo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Fifo:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _message(self, value: Any) -> tuple[str, Outgoing]:
        self._check_open()
        item_id, data = packed(value)
        return item_id, Outgoing(self._keys, DEFAULT_PRIORITY, data, fallback=self._fallback)

    def _of_process(self) -> SyncConsumer:
        with self._lock:
            self._check_open()
            if self._own is None or self._own.pid != os.getpid():
                self._own = SyncConsumer(self._app, self._keys, self._prefetch)
            return self._own

    def _of_loop(self) -> AsyncConsumer:
        with self._lock:
            self._check_open()
            return self._loops.get()

    def _new_consumer(self) -> AsyncConsumer:
        return AsyncConsumer(self._app, self._keys, self._prefetch)

    def _check_open(self) -> None:
        if self._closed:
            raise QueueClosedError(
                f"FIFO {self.name} was closed in this process; app.queue({self.name!r}) opens it again"
            )


def _limit(timeout: Duration | None) -> float:
    """The end of a wait, on ``time.monotonic()``."""
    return float("inf") if timeout is None else time.monotonic() + seconds(timeout, "timeout")
