"""Looking at dead letters: the half of ``app.dlq`` that changes nothing, and needs a connection alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Unpack

from taskq.broker.keys import Keys, QueueKeys
from taskq.broker.link.sync import SyncBroker
from taskq.client.dlq import query
from taskq.client.dlq.filters import Filter, Where
from taskq.client.dlq.letter import DeadLetter
from taskq.client.dlq.query import Group, Page
from taskq.client.dlq.runs import Run, read_runs
from taskq.client.dlq.selection import selected
from taskq.errors import UnknownQueueError, suggestion
from taskq.values.checks import check_count
from taskq.values.config import check_queue
from taskq.values.message import check_id

MAX_LETTERS = 1_000_000
"""Most dead letters that one read returns or looks at."""


class DeadLetterReader:
    """The dead letters of some queues, to look at.

    Args:
        broker: runs the commands.
        keys: of the namespace.
        queues: names the queues to look at when none is given.
    """

    def __init__(self, broker: SyncBroker, keys: Keys, queues: Callable[[], list[str]]) -> None:
        self._broker = broker
        self._keys = keys
        self._queues = queues

    def check_queue(self, queue: str) -> None:
        """Make sure that *queue* is one: reading one that is none just finds nothing.

        Raises:
            UnknownQueueError: neither this app nor Redis knows it.
        """
        keys = self._keys.queue(check_queue(queue))
        execute = self._broker.execute
        if queue not in (known := self._queues()) and not execute("EXISTS", keys.dead, keys.consumers):
            raise UnknownQueueError(f"there is no queue {queue!r}; {suggestion(queue, known)}")

    def count(self, queue: str | None = None) -> int:
        """How many there are."""
        return query.count(self._broker.execute, self._of(queue))

    def list(self, queue: str | None = None, *, limit: int = 100, **where: Unpack[Where]) -> list[DeadLetter]:
        """The oldest *limit* dead letters, of one queue or all, that are meant; looks at all of them if need be.

        Args:
            queue: only of this queue.
            limit: most to return, up to a million.
            **where: which are meant, see :class:`Where`.

        Raises:
            ConfigError: *where* cannot be used.
        """
        check_count(limit, "limit", 0, MAX_LETTERS)
        found: list[DeadLetter] = []
        after: str | None = None
        while len(found) < limit:
            page = self.page(queue, limit=limit - len(found), after=after, **where)
            found += page.letters
            after = page.next
            if after is None:
                break
        return found

    def page(
        self,
        queue: str | None = None,
        *,
        limit: int = 100,
        after: str | None = None,
        newest_first: bool = False,
        scan: int = query.SCAN,
        **where: Unpack[Where],
    ) -> Page:
        """The next dead letters that are meant, at a bounded cost.

        Args:
            queue: only of this queue; else queue by queue.
            limit: most letters in the page.
            after: the ``next`` of the page before, asked for with the same arguments.
            newest_first: from the latest to the oldest.
            scan: look at no more than so many entries; the page says at how many it did.
            **where: which are meant, see :class:`Where`.

        Raises:
            ConfigError: *where* or *after* cannot be used.
        """
        chosen = Filter.build(where)
        check_count(limit, "limit", 0, MAX_LETTERS)
        check_count(scan, "scan", 1, MAX_LETTERS)
        return query.page(
            self._broker.execute,
            self._of(queue),
            chosen,
            limit=limit,
            after=after,
            newest_first=newest_first,
            scan=scan,
        )

    def groups(self, queue: str | None = None) -> Sequence[Group]:
        """How many there are of each kind, largest first. Its cost does not grow with the number of dead letters."""
        return query.groups(self._broker.execute, self._of(queue))

    def get(self, task_or_entry_id: str, queue: str | None = None) -> DeadLetter | None:
        """The dead letter of a task id or entry id, or None. An entry id is found at once, a task id is searched.

        Raises:
            ConfigError: neither can be one.
        """
        name = check_id(task_or_entry_id, "an id of a dead letter")
        return next(selected(self._broker.execute, self._of(queue), Filter(), (name,)), None)

    def runs(self, queue: str | None = None, *, limit: int = 20) -> Sequence[Run]:
        """The latest replays and how their messages ended, newest first; kept for 30 days, 100 of each queue."""
        check_count(limit, "limit", 0, MAX_LETTERS)
        known = {name: self._keys.queue(name) for name in self._queues()}
        return read_runs(self._broker, self._of(queue), known, limit)

    async def apage(
        self,
        queue: str | None = None,
        *,
        limit: int = 100,
        after: str | None = None,
        newest_first: bool = False,
        scan: int = query.SCAN,
        **where: Unpack[Where],
    ) -> Page:
        """As :meth:`page`, without blocking the event loop."""
        return await asyncio.to_thread(
            lambda: self.page(queue, limit=limit, after=after, newest_first=newest_first, scan=scan, **where)
        )

    async def agroups(self, queue: str | None = None) -> Sequence[Group]:
        """As :meth:`groups`, without blocking the event loop."""
        return await asyncio.to_thread(self.groups, queue)

    async def aget(self, task_or_entry_id: str, queue: str | None = None) -> DeadLetter | None:
        """As :meth:`get`, without blocking the event loop."""
        return await asyncio.to_thread(self.get, task_or_entry_id, queue)

    async def aruns(self, queue: str | None = None, *, limit: int = 20) -> Sequence[Run]:
        """As :meth:`runs`, without blocking the event loop."""
        return await asyncio.to_thread(lambda: self.runs(queue, limit=limit))

    def _of(self, queue: str | None) -> Sequence[QueueKeys]:
        return [self._keys.queue(name) for name in (self._queues() if queue is None else [check_queue(queue)])]
