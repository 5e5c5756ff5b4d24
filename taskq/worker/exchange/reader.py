"""The blocking read: how a worker with dry queues learns of a new message at once, and sends next to nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from taskq import failpoints
from taskq.broker.keys import GROUP
from taskq.broker.link.address import Address
from taskq.broker.link.aio import AsyncConnection
from taskq.broker.link.replies import is_denied
from taskq.errors import BrokerError
from taskq.values.config import Config
from taskq.worker.admission.intake import Rows
from taskq.worker.partition.partition import QueueLink
from taskq.worker.partition.wakeup import Doorbell

BLOCK = 10.0
"""Seconds of one blocking read: long, because every one costs a command, also on an idle worker."""

UNBLOCK_TRIES = 20
"""How often a read is asked to end before its connection is closed instead."""


class _Asked(NamedTuple):
    links: Sequence[QueueLink]
    replies: asyncio.Future[list[Any]]


class Reader:
    """Reads all queues with one blocking call after the other, on a connection of its own.

    A blocked connection can carry nothing else, so settles go elsewhere, and to change what is listened to the
    connection is closed and opened again.

    Args:
        address: where Redis is.
        config: for timeouts.
        links: the queues.
        doorbell: rung when the reading has ended.
        to_read: the queues to read now, and how many entries of each there is use for.
        accept: takes what was read of a queue; the flag: ids were revoked, of this queue or of another.
        trouble: told what ended the reading, unless that was on purpose.
        pause: told whether a queue is paused, before what was read of it is handed over.
    """

    def __init__(
        self,
        address: Address,
        config: Config,
        links: Sequence[QueueLink],
        doorbell: Doorbell,
        to_read: Callable[[], tuple[list[QueueLink], int]],
        accept: Callable[[QueueLink, Rows, bool], Awaitable[None]],
        trouble: Callable[[BrokerError], None],
        pause: Callable[[QueueLink, bool], object],
    ) -> None:
        self._address = address
        self._config = config
        self._links = links
        self._doorbell = doorbell
        self._to_read = to_read
        self._accept = accept
        self._trouble = trouble
        self._pause = pause
        self._connection: AsyncConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._restarting = False
        self._interrupted = False
        self.client_id: int | None = None
        """The server's number of our connection, once there was one."""
        self.last_read = 0.0
        """``time.monotonic()`` of the last answer, also of an empty one."""

    @property
    def reading(self) -> bool:
        """Whether a read is under way: then nobody else fetches, or more would come than there is use for."""
        return self._task is not None

    def start(self, links: Sequence[QueueLink], credit: int) -> None:
        """Read up to *credit* entries of each of *links*, and go on while they stay dry and there is use for more."""
        self._restarting = self._interrupted = False
        self._task = asyncio.create_task(self._run(links, credit))

    def restart(self) -> None:
        """What is listened to has changed, or nothing is to be read any more: end the read under way."""
        self._restarting = self._task is not None
        self.close()

    async def interrupt(self, execute: Callable[..., Awaitable[Any]]) -> None:
        """End the read under way at the server, so that what it has got meanwhile still arrives.

        Args:
            execute: runs a command on another connection.

        Raises:
            BrokerError: that connection is lost.
        """
        self._interrupted = True  # what comes back now is the last
        for _ in range(UNBLOCK_TRIES):
            if self._task is None:
                return
            if self.client_id is None:
                break
            try:
                if await execute("CLIENT", "UNBLOCK", self.client_id):
                    return
            except BrokerError as error:
                if not is_denied(error):
                    raise
                break
            await asyncio.sleep(0.001)  # served at this moment, or not blocked yet
        self.restart()

    async def stop(self) -> None:
        """Ask for nothing any more. What was asked already may still be answered, until the connection is gone."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def close(self) -> None:
        """Close the connection; a read under way ends."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _run(self, links: Sequence[QueueLink], credit: int) -> None:
        try:
            connection = await self._open()
            consumer = self._links[0].consumer
            if self._interrupted:
                return
            asked = self._ask(connection, links, credit)
            while True:
                # what came is let go of before the next read, which may take long
                count = await self._take(asked.links, await connection.finish(asked.replies), consumer, credit)
                if count >= credit or self._links[0].consumer != consumer or not self._may_go_on():
                    return
                # the coroutines just handed over begin first: to ask takes longer than it takes them to start
                await asyncio.sleep(0)
                links, credit = self._to_read()
                if not links or self._links[0].consumer != consumer or not self._may_go_on():
                    return
                asked = self._ask(connection, links, credit)
        except BrokerError as error:
            self.close()
            for link in self._links:
                link.reclaim = True
            if not self._restarting:
                self._trouble(error)
                await asyncio.sleep(0.1)
        finally:
            self._task = None
            self._doorbell.wake()

    async def _take(self, links: Sequence[QueueLink], answers: list[Any], consumer: bytes, credit: int) -> int:
        """Hand over what was read; how many entries that are."""
        entries, paused, revoked = answers
        found = self._by_link(entries)
        if failpoints.ARMED:
            failpoints.hit("block.replied")
        if self._links[0].consumer != consumer:
            return 0  # the lease was lost meanwhile: these belong to others
        self.last_read = time.monotonic()
        for link, since in zip(links, paused, strict=True):
            self._pause(link, since is not None)
        for link, rows in found:
            link.hot = sum(len(entries) for _, entries in rows) >= credit
            await self._accept(link, rows, revoked > 0)
        return sum(len(entries) for _, rows in found for _, entries in rows)

    async def _open(self) -> AsyncConnection:
        if self._connection is None or not self._connection.is_open:
            timeout = self._config.broker_connection_timeout
            connection = await AsyncConnection.open(self._address, timeout, "taskq-reader")
            try:
                self.client_id = await connection.execute("CLIENT", "ID", timeout=timeout)
            except BrokerError as error:
                if not is_denied(error):
                    raise
                self.client_id = None  # a read is then ended by closing its connection
            self._connection = connection
        return self._connection

    def _may_go_on(self) -> bool:
        return not self._interrupted and any(link.awaited for link in self._links)

    def _ask(self, connection: AsyncConnection, links: Sequence[QueueLink], credit: int) -> _Asked:
        """Ask for entries and, behind that, which of their queues are paused and whether any has revoked ids.

        The answers come together, so that a message need not wait for a second question.
        """
        if failpoints.ARMED:
            failpoints.hit("block.send")
        streams = [stream for link in links for stream in link.readable]
        timeout = BLOCK + self._config.broker_deadline
        replies = connection.begin(
            ("XREADGROUP", "GROUP", GROUP, self._links[0].consumer, "COUNT", credit, "BLOCK", round(BLOCK * 1000),
             "STREAMS", *streams, *[">"] * len(streams)),
            ("MGET", *(link.keys.paused for link in links)),
            ("EXISTS", *(link.keys.revoked for link in links)),
            timeout=timeout,
        )  # fmt: skip
        return _Asked(links, replies)

    def _by_link(self, reply: Any) -> list[tuple[QueueLink, Rows]]:
        where = {stream: link for link in self._links for stream in link.streams}
        found: dict[str, tuple[QueueLink, list[Any]]] = {}
        for stream, entries in reply or ():
            link = where[stream]
            found.setdefault(link.queue, (link, []))[1].append((stream, entries))
        return list(found.values())
