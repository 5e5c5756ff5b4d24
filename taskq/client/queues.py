"""The queues of an app: what is in them; pause, resume, purge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from taskq.broker import scripts
from taskq.broker.keys import Keys, QueueKeys
from taskq.broker.link.sync import SyncBroker
from taskq.broker.views import inspect
from taskq.broker.views.inspect import QueueStats
from taskq.broker.views.survey import read_queues
from taskq.errors import DecodeError
from taskq.values.config import Config, check_queue, is_fifo
from taskq.values.durations import milliseconds
from taskq.values.message import PLAIN, Message, TaskState, decode
from taskq.values.outcome import pack_error

_PAGE = 250
Page = Sequence[tuple[int | str, bytes, bytes]]
"""Where each message is, as ``lua/purge.lua`` counts, its handle there, and the message."""


class Queues:
    """The queues of an app.

    Args:
        broker: runs the commands.
        keys: of the namespace.
        config: says how long an outcome is kept.
        known: names the queues there are.
    """

    def __init__(self, broker: SyncBroker, keys: Keys, config: Config, known: Callable[[], list[str]]) -> None:
        self._broker = broker
        self._keys = keys
        self._config = config
        self._known = known

    def stats(self) -> list[QueueStats]:
        """Every queue as it is now, by name; in two round trips, however many there are."""
        views = read_queues(self._broker.pipeline, [self._keys.queue(name) for name in self._known()])
        return [view.stats for view in views]

    def pause(self, queue: str) -> bool:
        """Deliver nothing more of *queue*; see :meth:`taskq.TaskQ.pause`."""
        keys = self._of(queue)
        self._broker.execute("SADD", self._keys.queues, queue)  # so that views show it, even when it was never used
        return bool(self._broker.run(scripts.pause(keys)))

    def resume(self, queue: str) -> bool:
        """Deliver its messages again; see :meth:`taskq.TaskQ.resume`."""
        return bool(self._broker.run(scripts.resume(self._of(queue))))

    def purge(self, queue: str, *, delayed: bool = False) -> int:
        """Drop what waits in *queue*; see :meth:`taskq.TaskQ.purge`."""
        keys = self._of(queue)
        outcome = pack_error(TaskState.REVOKED, "", "its queue was purged", "", 0)
        ttl_ms = milliseconds(self._config.failure_expires)
        streams = scripts.streams_of(keys, inspect.levels(self._broker.execute, keys))
        pages = [self._waiting(number, stream) for number, stream in enumerate(streams, 1)]
        parked = [keys.parked(name) for name in inspect.parked(self._broker.execute, keys)]
        pages += [self._parked(number, key) for number, key in enumerate(parked, 1 + len(streams))]
        if delayed:
            pages.insert(0, self._delayed(keys))
        # first what is let into the queue by the end of another: the next of a lane, and of a schedule
        pages[:0] = [self._held(keys), self._in_lanes(keys)]
        dropped = 0
        for page in (page for source in pages for page in source):
            fives = [arg for number, handle, data in page for arg in (number, handle, *_identity(keys, handle, data))]
            dropped += self._broker.run(scripts.purge(keys, [*streams, *parked], ttl_ms, outcome, fives))
        return dropped

    def _of(self, queue: str) -> QueueKeys:
        return self._keys.queue(check_queue(queue))

    def _waiting(self, number: int, stream: bytes) -> Iterator[Page]:
        """The entries of a stream that no worker has, as of now, in pages."""
        newest = self._broker.execute("XREVRANGE", stream, "+", "-", "COUNT", 1)
        if not newest:
            return
        start = b"(" + inspect.last_delivered(self._broker.execute, stream)
        while True:
            rows = self._broker.execute("XRANGE", stream, start, newest[0][0], "COUNT", _PAGE)
            if not rows:
                return
            yield [(number, entry, _message_of(fields)) for entry, fields in rows]
            start = b"(" + rows[-1][0]

    def _parked(self, number: int, key: bytes) -> Iterator[Page]:
        """The messages that wait for a rate limit, as of now, in pages."""
        left = self._broker.execute("LLEN", key)
        while left > 0 and (members := self._broker.execute("LRANGE", key, 0, min(left, _PAGE) - 1)):
            yield [(-number, member, member.split(b"\n", 2)[-1]) for member in members]
            left -= len(members)

    def _delayed(self, keys: QueueKeys) -> Iterator[Page]:
        """The delayed messages, as of now, in pages."""
        left = self._broker.execute("ZCARD", keys.delayed)
        while left > 0 and (members := self._broker.execute("ZRANGE", keys.delayed, 0, min(left, _PAGE) - 1)):
            yield [(0, member, scripts.split_member(member)[1]) for member in members]
            left -= len(members)

    def _held(self, keys: QueueKeys) -> Iterator[Page]:
        """The messages that schedules hold back, as of now, in pages."""
        for name in inspect.holding(self._broker.execute, keys):
            left = self._broker.execute("LLEN", keys.held(name))
            while left > 0 and (found := self._broker.execute("LRANGE", keys.held(name), 0, min(left, _PAGE) - 1)):
                yield [(f"held:{name}", member, member.partition(b"\n")[2]) for member in found]
                left -= len(found)

    def _in_lanes(self, keys: QueueKeys) -> Iterator[Page]:
        """The messages that wait behind another of their ordering key, in pages."""
        for field in self._broker.execute("HKEYS", keys.lanes):
            lane = keys.lane_prefix + field[1:]
            if field.startswith(b"k"):
                left = self._broker.execute("LLEN", lane)
                while left > 0 and (found := self._broker.execute("LRANGE", lane, 0, min(left, _PAGE) - 1)):
                    yield [("lane", member, member[1:]) for member in found]
                    left -= len(found)


def _message_of(fields: Sequence[bytes]) -> bytes:
    named = dict(zip(fields[::2], fields[1::2], strict=False))
    return named.get(b"m", b"")


def _identity(keys: QueueKeys, handle: bytes, data: bytes) -> tuple[str, bytes, str]:
    """Task id, claim and ordering key of a message; empty for what is none, or is on its way to its lane."""
    if is_fifo(keys.queue):
        return "", b"", ""  # nobody can ask for the outcome of an item
    try:
        message: Message = decode(data)
    except DecodeError:
        return "", b"", ""
    meta = message.meta or PLAIN
    claim = keys.claim(message.task, meta.idempotency_key) if meta.idempotency_key else b""
    not_yet_in_lane = b"A" <= handle[:1] <= b"J"
    return message.task_id, claim, "" if not_yet_in_lane else meta.ordering_key or ""
