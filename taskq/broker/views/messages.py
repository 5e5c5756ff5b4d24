"""Messages of a queue that have not ended: which there are, and where one of them is. For views and results.

Messages carry no state key of their own, so a search looks at the messages themselves: in one script at all of them,
or, where there are too many, at those where it should be and at a bounded number of others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from taskq.broker import calls, scripts
from taskq.broker.keys import FRONT, GROUP, QueueKeys
from taskq.broker.link.sync import SyncBroker
from taskq.broker.views.inspect import Execute, holding, last_delivered, levels, names_of, of_our_types
from taskq.errors import DecodeError
from taskq.values.message import PLAIN, Message, TaskState, decode, id_on_wire, wire_id

_PAGE = 500
"""Entries read in one go."""
PARKED = "parked"
"""The level of a message that waits for the rate limit of its task."""
HELD = "held"
"""The level of a message that waits until the one before it of its schedule has ended."""
DEAD = "dead"
"""The level of a dead letter."""
MOST_SCANNED = 20_000
"""Entries looked at for one list, or for one message, at most."""
_AT_ONCE = 2_000
"""Messages looked at in one script, at most: some milliseconds of Redis."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One message where it lies in Redis."""

    queue: str
    state: TaskState
    """PENDING, STARTED (delivered to a worker) or SCHEDULED; FAILURE of a dead letter."""
    data: bytes
    message: Message | None
    """None when the bytes are no message."""
    at_ms: int
    """Epoch milliseconds: when it came into the stream; for SCHEDULED, when it is due; if parked, when it was sent."""
    level: str = ""
    """Priority, ``front``, ``parked`` behind a rate limit, or ``held`` back by its schedule."""
    entry: str = ""
    worker: str = ""
    """Who has it; STARTED only."""
    held_ms: int = 0
    """For how long; STARTED only."""

    @property
    def task_id(self) -> str:
        """The task id; empty when it is not a message."""
        return self.message.task_id if self.message else ""

    @property
    def task(self) -> str:
        """The task's name; empty when it is not a message."""
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


@dataclass(frozen=True, slots=True)
class Trace:
    """What Redis knows of one message."""

    outcome: bytes | None
    """As it is stored: final, or of its last failed attempt."""
    revoked: bool
    """Whether it is to be stopped."""
    found: Stored | None
    """Where it waits or runs."""
    complete: bool
    """Whether every message of the queue was looked at, so that what was not found is not there."""
    handle: bytes = b""
    """What ``lua/purge.lua`` takes of it: the entry id, or what the list holds."""

    @property
    def state(self) -> TaskState | None:
        """Where the message is in its life; None where its outcome says that."""
        if self.outcome is not None:
            return None
        if self.found is not None:
            return self.found.state
        return TaskState.UNKNOWN if self.complete else TaskState.UNTRACED


def find(broker: SyncBroker, keys: QueueKeys, task_id: str, around_ms: Sequence[int] = ()) -> Trace:
    """Look for one message in every place of its queue, at one moment.

    In a queue of more than :data:`_AT_ONCE` messages it looks where the message should be, then at
    :data:`MOST_SCANNED` more.

    Args:
        broker: runs the commands.
        keys: of the queue.
        task_id: the task id.
        around_ms: epoch milliseconds at about which it may have come into its queue, or may be due.

    Raises:
        BrokerError: Redis could not be asked.
    """
    needle = id_on_wire(task_id)
    around = [ms for ms in (*around_ms, born_ms(task_id)) if ms]
    call = _call(keys, task_id, around)
    trace = _trace(keys, broker.run(call))
    if trace.complete:
        return trace
    since = max(min(around, default=0) - 1000, 0)
    execute = of_our_types(broker.execute)
    found = _walk(execute, keys, needle, since) or _walk_delayed(execute, keys, needle, since)
    again = _trace(keys, broker.run(call))  # it may have ended or moved meanwhile
    return again if again.complete or found is None else replace(again, found=found, complete=True)


def end_waiting(broker: SyncBroker, keys: QueueKeys, task_id: str, outcome: bytes, ttl_ms: int) -> bool:
    """End a message with *outcome* if it waits for a worker where a look at one moment finds it; whether it did.

    Raises:
        BrokerError: Redis could not be asked.
    """
    trace = _trace(keys, broker.run(_call(keys, task_id, [born_ms(task_id)])))
    found, number, place = trace.found, "1", keys.stream(FRONT)
    if found is None or found.message is None or found.state is not TaskState.PENDING or found.level == HELD:
        return False
    meta = found.message.meta or PLAIN
    if meta.schedule is not None or meta.replayed is not None:
        return False  # its end is counted elsewhere too, which a worker does
    if found.level == PARKED:
        number, place = "-1", keys.parked(found.task)
    elif not found.entry:
        number = "lane"
    else:
        place = keys.stream(found.level)
    claim = keys.claim(found.task, meta.idempotency_key) if meta.idempotency_key else b""
    words = (number, trace.handle, task_id, claim, meta.ordering_key or "")
    return bool(broker.run(scripts.purge(keys, [place], ttl_ms, outcome, words)))


def _call(keys: QueueKeys, task_id: str, around: Sequence[int]) -> calls.Call:
    schedule = task_id.rpartition("@")[0]
    held = [keys.held(schedule)] if schedule else []
    return scripts.find(keys, task_id, id_on_wire(task_id), _AT_ONCE, [ms for ms in around if ms], held)


def born_ms(task_id: str) -> int:
    """Epoch milliseconds at which one of our own ids was made; 0 for any other."""
    raw = wire_id(task_id)
    return int.from_bytes(raw[:6], "big") if isinstance(raw, bytes) else 0


def _walk_delayed(execute: Execute, keys: QueueKeys, needle: bytes, since: int) -> Stored | None:
    """The message among those that are due after *since*, epoch ms, a page at a time."""
    start = execute("ZCOUNT", keys.delayed, "-inf", f"({since}") or 0
    for page in range(start, start + MOST_SCANNED, _PAGE):
        rows = execute("ZRANGE", keys.delayed, page, page + _PAGE - 1, "WITHSCORES")
        for member, due in zip(rows[::2], rows[1::2], strict=True):
            if scripts.split_member(member)[1].startswith(needle, 2):
                return _scheduled(keys, member, due)
        if not rows:
            break
    return None


def _walk(execute: Execute, keys: QueueKeys, needle: bytes, since: int) -> Stored | None:
    """The message in a stream, among those sent after *since*, epoch ms, a page at a time."""
    left = MOST_SCANNED
    for stream in scripts.streams_of(keys, levels(execute, keys)):
        at = b"%d" % since
        while left > 0 and (rows := execute("XRANGE", stream, at, "+", "COUNT", _PAGE)):
            for entry, fields in rows:
                data = _message_in(fields)
                if data.startswith(needle, 2):
                    pending = execute("XPENDING", stream, GROUP, entry, entry, 1) if _has_group(execute, stream) else []
                    return _entry(keys, stream, entry, data, pending[0] if pending else None)
            left -= len(rows)
            at = b"(" + rows[-1][0]
    return None


def _trace(keys: QueueKeys, answer: Sequence[Any]) -> Trace:
    """The answer of ``lua/find.lua``."""
    outcome, revoked, complete, place, *where = answer
    found = None
    if place == b"stream":
        level, entry, data, worker, idle = where
        pending = (entry, worker, idle, 0) if worker else None
        found = _entry(keys, keys.stream(level.decode()), entry, data, pending)
    elif place == b"delayed":
        found = _scheduled(keys, where[0], where[1])
    elif place == b"parked":
        found = _in_park(keys, where[1])
    elif place == b"lane":
        found = _in_lane(keys, where[0])
    elif place == b"dead":
        at_ms = int(where[0].partition(b"-")[0])
        found = Stored(keys.queue, TaskState.FAILURE, where[1], _decoded(where[1]), at_ms, DEAD, where[0].decode())
    elif place == b"held":
        found = _in_hold(keys, where[0])
    handle = where[1] if place in (b"stream", b"parked") else where[0] if where else b""
    return Trace(outcome, bool(revoked), found, bool(complete), handle)


def _in_park(keys: QueueKeys, packed: bytes) -> Stored:
    data = packed.split(b"\n", 2)[-1]
    message = _decoded(data)
    return Stored(keys.queue, TaskState.PENDING, data, message, _born(message), PARKED)


def _in_hold(keys: QueueKeys, packed: bytes) -> Stored:
    data = packed.partition(b"\n")[2]
    message = _decoded(data)
    return Stored(keys.queue, TaskState.PENDING, data, message, _born(message), HELD)


def _born(message: Message | None) -> int:
    return born_ms(message.task_id) if message is not None else 0


def _parked(execute: Execute, keys: QueueKeys, most: int) -> Iterator[Stored]:
    """The first messages that wait for the rate limit of each task."""
    for name in sorted(names_of(execute("SMEMBERS", keys.limited))):
        for packed in execute("LRANGE", keys.parked(name), 0, most - 1):
            yield _in_park(keys, packed)


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
    for name in holding(execute, keys):
        for packed in execute("LRANGE", keys.held(name), 0, page - 1):
            yield _in_hold(keys, packed)


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
    return Stored(keys.queue, TaskState.PENDING, data, message, _born(message), str(level))


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
