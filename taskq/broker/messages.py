"""Messages of a queue that have not ended: which there are, and where one of them is. For views and results.

Messages carry no state key of their own, so a search looks at a bounded number of entries: those that were sent at
about the right time, and those at the front.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from taskq.broker import scripts
from taskq.broker.inspect import Execute, last_delivered, levels, names_of, of_our_types
from taskq.broker.keys import GROUP, QueueKeys
from taskq.errors import DecodeError
from taskq.message import Message, TaskState, decode, wire_id

_PAGE = 500
"""Entries read in one go, and entries that a search looks at about each instant."""
PARKED = "parked"
"""The level of a message that waits for the rate limit of its task."""
MOST_SCANNED = 20_000
"""Entries looked at for one list, at most."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One message where it lies in Redis."""

    queue: str
    state: TaskState
    """PENDING, STARTED (delivered to a worker) or SCHEDULED."""
    data: bytes
    message: Message | None
    """None when the bytes are no message."""
    at_ms: int
    """Epoch milliseconds: when it came into the stream; for SCHEDULED, when it is due; if parked, when it was sent."""
    level: str = ""
    """Priority, ``front``, or ``parked`` behind a rate limit."""
    entry: str = ""
    worker: str = ""
    """Who has it; STARTED only."""
    held_ms: int = 0
    """For how long; STARTED only."""

    @property
    def task_id(self) -> str:
        """The task id; empty when it is no message."""
        return self.message.task_id if self.message else ""

    @property
    def task(self) -> str:
        """The task's name; empty when it is no message."""
        return self.message.task if self.message else ""


def stored(
    execute: Execute, keys: QueueKeys, state: TaskState, *, task: str | None = None, limit: int = 50
) -> list[Stored]:
    """The next *limit* messages of a queue in *state* (of one *task*), in the order in which their turn comes.

    With *task* at most :data:`MOST_SCANNED` messages are looked at.

    Raises:
        BrokerError: Redis could not be asked.
    """
    execute = of_our_types(execute)
    walk = {TaskState.PENDING: _waiting, TaskState.STARTED: _delivered, TaskState.SCHEDULED: _delayed}[state]
    found: list[Stored] = []
    page = limit if task is None else _PAGE
    for looked, each in enumerate(walk(execute, keys, min(page, _PAGE))):
        if task is None or each.task == task:
            found.append(each)
        if len(found) >= limit or looked + 1 >= MOST_SCANNED:
            break
    return found


def find(execute: Execute, keys: QueueKeys, task_id: str, around_ms: Sequence[int] = ()) -> Stored | None:
    """The message with that id, if it has not ended and stands where this looks.

    Args:
        execute: runs one command.
        keys: of the queue.
        task_id: the task id.
        around_ms: epoch milliseconds at about which it may have come into its queue, or may be due.
    """
    execute = of_our_types(execute)
    wanted = wire_id(task_id)
    starts = [b"-", *(b"%d" % max(ms - 1000, 0) for ms in around_ms)]
    for stream in scripts.streams_of(keys, levels(execute, keys)):
        for start in starts:
            for entry, fields in execute("XRANGE", stream, start, "+", "COUNT", _PAGE):
                data = _message_in(fields)
                if _is(data, wanted):
                    pending = execute("XPENDING", stream, GROUP, entry, entry, 1) if _has_group(execute, stream) else []
                    return _entry(keys, stream, entry, data, pending[0] if pending else None)
    for bound in ("-inf", *(str(ms - 1000) for ms in around_ms)):
        rows = execute("ZRANGEBYSCORE", keys.delayed, bound, "+inf", "WITHSCORES", "LIMIT", 0, _PAGE)
        for member, due in zip(rows[::2], rows[1::2], strict=True):
            if _is(scripts.split_member(member)[1], wanted):
                return _scheduled(keys, member, due)
    for each in _parked(execute, keys, _PAGE):
        if each.message is not None and each.message.id == wanted:
            return each
    for looked, each in enumerate(_lanes(execute, keys, _PAGE)):
        if _is(each.data, wanted):
            return each
        if looked >= _PAGE:
            break
    return None


def locate(execute: Execute, keys: QueueKeys, task_id: str, around_ms: Sequence[int]) -> TaskState:
    """Where a message without an outcome is: SCHEDULED, PENDING, STARTED, REVOKED or UNKNOWN.

    UNKNOWN also for one that hides behind more than a few hundred others.
    """
    if of_our_types(execute)("ZSCORE", keys.revoked, task_id):
        return TaskState.REVOKED
    found = find(execute, keys, task_id, around_ms)
    return TaskState.UNKNOWN if found is None else found.state


def _parked(execute: Execute, keys: QueueKeys, most: int) -> Iterator[Stored]:
    """The first messages that wait for the rate limit of each task."""
    for name in sorted(names_of(execute("SMEMBERS", keys.limited))):
        for packed in execute("LRANGE", keys.parked(name), 0, most - 1):
            data = packed.split(b"\n", 2)[-1]
            message = _decoded(data)
            sent_ms = int.from_bytes(message.id[:6]) if message and isinstance(message.id, bytes) else 0
            yield Stored(keys.queue, TaskState.PENDING, data, message, sent_ms, PARKED)


def _waiting(execute: Execute, keys: QueueKeys, page: int) -> Iterator[Stored]:
    yield from _parked(execute, keys, page)
    for stream in scripts.streams_of(keys, levels(execute, keys)):
        if not execute("XLEN", stream):
            continue
        start = b"(" + last_delivered(execute, stream)
        while rows := execute("XRANGE", stream, start, "+", "COUNT", page):
            for entry, fields in rows:
                yield _entry(keys, stream, entry, _message_in(fields), None)
            start = b"(" + rows[-1][0]
    yield from _lanes(execute, keys, page)


def _delivered(execute: Execute, keys: QueueKeys, page: int) -> Iterator[Stored]:
    for stream in scripts.streams_of(keys, levels(execute, keys)):
        if not _has_group(execute, stream):
            continue
        start = b"-"
        while rows := execute("XPENDING", stream, GROUP, start, "+", page):
            for row in rows:
                for entry, fields in execute("XRANGE", stream, row[0], row[0]):
                    yield _entry(keys, stream, entry, _message_in(fields), row)
            start = b"(" + rows[-1][0]


def _delayed(execute: Execute, keys: QueueKeys, page: int) -> Iterator[Stored]:
    start = 0
    while rows := execute("ZRANGE", keys.delayed, start, start + page - 1, "WITHSCORES"):
        for member, due in zip(rows[::2], rows[1::2], strict=True):
            yield _scheduled(keys, member, due)
        start += page


def _has_group(execute: Execute, stream: bytes) -> bool:
    return bool(execute("EXISTS", stream)) and last_delivered(execute, stream) != b"0-0"


def _entry(keys: QueueKeys, stream: bytes, entry: bytes, data: bytes, pending: Sequence[bytes | int] | None) -> Stored:
    level = stream.removeprefix(keys.stream_prefix).decode()
    born = int(entry.partition(b"-")[0])
    if pending is None:
        return Stored(keys.queue, TaskState.PENDING, data, _decoded(data), born, level, entry.decode())
    _, consumer, idle, _ = pending
    worker = consumer.decode(errors="replace") if isinstance(consumer, bytes) else ""
    return Stored(keys.queue, TaskState.STARTED, data, _decoded(data), born, level, entry.decode(), worker, int(idle))


def _scheduled(keys: QueueKeys, member: bytes, due: bytes) -> Stored:
    level, data = scripts.split_member(member)
    return Stored(keys.queue, TaskState.SCHEDULED, data, _decoded(data), round(float(due)), str(level))


def _in_lane(keys: QueueKeys, member: bytes) -> Stored:
    level, data = scripts.split_member(member)
    message = _decoded(data)
    raw = message.id if message is not None else b""
    born = int.from_bytes(raw[:6], "big") if isinstance(raw, bytes) else 0
    return Stored(keys.queue, TaskState.PENDING, data, message, born, str(level))


def _lanes(execute: Execute, keys: QueueKeys, page: int) -> Iterator[Stored]:
    """What waits behind another message of its ordering key, lane by lane."""
    for field in execute("HKEYS", keys.lanes)[:_PAGE]:
        start = 0
        while rows := execute("LRANGE", keys.lane_prefix + field[1:], start, start + page - 1):
            for member in rows:
                yield _in_lane(keys, member)
            start += page


def _message_in(fields: Sequence[bytes]) -> bytes:
    return dict(zip(fields[::2], fields[1::2], strict=False)).get(b"m", b"")


def _decoded(data: bytes) -> Message | None:
    try:
        return decode(data)
    except DecodeError:
        return None


def _is(data: bytes, wanted: bytes | str) -> bool:
    message = _decoded(data)
    return message is not None and message.id == wanted
