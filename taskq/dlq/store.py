"""``app.dlq``: what can be done with the dead letters of an app's queues."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Unpack

import msgspec

from taskq import failpoints
from taskq.broker import scripts
from taskq.broker.keys import Keys, QueueKeys
from taskq.broker.sync import SyncBroker
from taskq.dlq import query
from taskq.dlq.filters import Filter, Where
from taskq.dlq.letter import DeadLetter
from taskq.dlq.query import Group, Page
from taskq.dlq.selection import selected
from taskq.errors import UnknownQueueError
from taskq.message import Meta, encode

_PAGE = 500

Quads = list[scripts.Arg]
"""Dead letter id, level, message, task id; then the next."""


class DeadLetters:
    """The dead letters of an app's queues: ``app.dlq``.

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
        keys = self._keys.queue(queue)
        execute = self._broker.execute
        if queue not in (known := self._queues()) and not execute("EXISTS", keys.dead, keys.consumers):
            raise UnknownQueueError(f"there is no queue {queue!r}; known are {', '.join(known)}")

    def count(self, queue: str | None = None) -> int:
        """How many there are."""
        return query.count(self._broker.execute, self._of(queue))

    def list(self, queue: str | None = None, *, limit: int = 100, **where: Unpack[Where]) -> list[DeadLetter]:
        """The oldest *limit* dead letters, of one queue or all, that are meant; looks at all of them if need be.

        Args:
            queue: only of this queue.
            limit: most to return.
            **where: which are meant, see :class:`Where`.

        Raises:
            ConfigError: *where* cannot be used.
        """
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
        """The dead letter of a task id or entry id, or None. An entry id is found at once, a task id is searched."""
        return next(selected(self._broker.execute, self._of(queue), Filter(), (task_or_entry_id,)), None)

    def replay(
        self,
        ids: Iterable[str] | None = None,
        *,
        queue: str | None = None,
        max_replays: int | None = None,
        **where: Unpack[Where],
    ) -> int:
        """Put dead letters back into their queue, with their attempts reset and ``replays`` counted up.

        Each is one atomic step that happens at most once, so a replay may be repeated or run twice at a time.

        Args:
            ids: task ids or entry ids; None means all that the other arguments leave.
            queue: only of this queue.
            max_replays: leave those that were replayed this often.
            **where: which are meant, see :class:`Where`.

        Returns:
            How many were put back. Malformed ones stay.

        Raises:
            BrokerError: Redis could not be asked, or has no memory; nothing is lost.
        """
        total = 0
        page: dict[str, Quads] = {}
        wanted = None if ids is None else set(ids)
        for letter in selected(self._broker.execute, self._of(queue), Filter.build(where), wanted):
            if letter.message is None or (max_replays is not None and letter.replays >= max_replays):
                continue
            quads = page.setdefault(letter.queue, [])
            quads += _revived(letter)
            if len(quads) >= 4 * _PAGE:
                total += self._replay_page(letter.queue, page.pop(letter.queue))
        return total + sum(self._replay_page(name, quads) for name, quads in page.items())

    def purge(self, ids: Iterable[str] | None = None, *, queue: str | None = None, **where: Unpack[Where]) -> int:
        """Delete dead letters for good; the arguments choose as in :meth:`replay`. Returns how many."""
        total = 0
        page: dict[str, list[scripts.Arg]] = {}
        wanted = None if ids is None else set(ids)
        for letter in selected(self._broker.execute, self._of(queue), Filter.build(where), wanted):
            pairs = page.setdefault(letter.queue, [])
            pairs += (letter.entry, letter.task_id)
            if len(pairs) >= 2 * _PAGE:
                total += self._discard_page(letter.queue, page.pop(letter.queue))
        return total + sum(self._discard_page(name, pairs) for name, pairs in page.items())

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

    def _replay_page(self, queue: str, quads: Sequence[scripts.Arg]) -> int:
        if failpoints.ARMED:
            failpoints.hit("replay.page")
        moved = int(self._broker.run(scripts.replay(self._keys.queue(queue), quads)))
        if failpoints.ARMED:
            failpoints.hit("replay.done")
        return moved

    def _discard_page(self, queue: str, pairs: Sequence[scripts.Arg]) -> int:
        return int(self._broker.run(scripts.discard(self._keys.queue(queue), pairs)))

    def _of(self, queue: str | None) -> Sequence[QueueKeys]:
        return [self._keys.queue(name) for name in ([queue] if queue else self._queues())]


def _revived(letter: DeadLetter) -> Quads:
    message = letter.message
    assert message is not None
    old = message.meta or Meta()
    meta = msgspec.structs.replace(
        old, attempt=1, crashes=0, first=0, expires=0, unknown_since=0, due=0, replays=old.replays + 1
    )
    revived = msgspec.structs.replace(message, meta=meta)
    return [letter.entry, str(meta.priority), encode(revived), message.task_id]
