"""Messages where they are. Each look is bounded in entries and in time, and says where the next one goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from taskq.broker import scripts
from taskq.broker.keys import QueueKeys
from taskq.broker.views.inspect import Execute, last_delivered, levels
from taskq.broker.views.messages import Stored, find, stored
from taskq.broker.views.messages import Trace as Known
from taskq.client.app import TaskQ
from taskq.errors import DecodeError
from taskq.values import outcome
from taskq.values.message import Message, TaskState, decode
from taskq.values.outcome import Ending
from taskq.values.redaction import redacted_call

PAGE = 500
"""Entries in one read."""
SHOWN = 50
MOST_DIGITS = 15
"""Of a number in an address."""
BUDGET = 0.05
"""Seconds that one look may take."""


@dataclass(slots=True)
class Look:
    """What a look found."""

    found: list[Stored] = field(default_factory=list)
    scanned: int = 0
    next: str = ""
    """Where to go on; empty when everything was looked at."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a look is for; empty means everything."""

    task: str = ""
    """A part of its name."""
    text: str = ""
    """Somewhere in the arguments, upper or lower case; what is not shown cannot be searched for."""

    def matches(self, message: Message | None, app: TaskQ) -> bool:
        """Whether it is one of those."""
        if message is None:
            return not (self.task or self.text)
        if self.task not in message.task:
            return False
        if not self.text:
            return True
        text = self.text.casefold()
        if text not in repr((message.args, message.kwargs)).casefold():  # spares most messages the redaction
            return False
        call = redacted_call(message, app.tasks.get(message.task))
        return text in repr((call.args, call.kwargs)).casefold()


Place = tuple[str, Stored]
"""A message, and the cursor behind it."""


def look(app: TaskQ, queue: str, view: str, wanted: Wanted, after: str = "") -> Look:
    """The next messages of *queue* in one of :data:`VIEWS`; *after* is the ``next`` of the look before.

    Raises:
        BrokerError: Redis could not be asked.
    """
    result, deadline = Look(), time.monotonic() + BUDGET
    for cursor, message in VIEWS[view](app.sync_broker.execute, app.keys.queue(queue), after):
        result.scanned += 1
        if wanted.matches(message.message, app):
            result.found.append(message)
        if len(result.found) >= SHOWN or (result.scanned % 100 == 0 and time.monotonic() > deadline):
            result.next = cursor
            break
    return result


def _queued(execute: Execute, keys: QueueKeys, after: str) -> Iterator[Place]:
    """No worker has them yet; in the order of their turn."""
    level, _, entry = after.partition("@")
    streams = scripts.streams_of(keys, levels(execute, keys))
    names = [_level(keys, stream) for stream in streams]
    for name, stream in list(zip(names, streams, strict=True))[names.index(level) if level in names else 0 :]:
        if not execute("EXISTS", stream):
            continue
        start = entry.encode() if name == level and entry else last_delivered(execute, stream)
        while rows := execute("XRANGE", stream, b"(" + start, "+", "COUNT", PAGE):
            for at, fields in rows:
                yield f"{name}@{at.decode()}", _in_stream(keys, TaskState.PENDING, name, at, fields)
            start = rows[-1][0]


def _newest(execute: Execute, keys: QueueKeys, after: str) -> Iterator[Place]:
    """What came last, whether a worker has it or not."""
    level, _, entry = after.partition("@")
    streams = scripts.streams_of(keys, levels(execute, keys))
    names = [_level(keys, stream) for stream in streams]
    for name, stream in list(zip(names, streams, strict=True))[names.index(level) if level in names else 0 :]:
        if not execute("EXISTS", stream):
            continue
        delivered = _order(last_delivered(execute, stream))
        end = b"(" + entry.encode() if name == level and entry else b"+"
        while rows := execute("XREVRANGE", stream, end, "-", "COUNT", PAGE):
            for at, fields in rows:
                state = TaskState.STARTED if _order(at) <= delivered else TaskState.PENDING
                yield f"{name}@{at.decode()}", _in_stream(keys, state, name, at, fields)
            end = b"(" + rows[-1][0]


def _delayed(execute: Execute, keys: QueueKeys, after: str) -> Iterator[Place]:
    """Not due yet; the next one first."""
    position = number(after)
    while rows := execute("ZRANGE", keys.delayed, position, position + PAGE - 1, "WITHSCORES"):
        for member, due in zip(rows[::2], rows[1::2], strict=True):
            position += 1
            level, data = member[:1].decode("ascii", "replace"), member[1:]
            yield str(position), Stored(keys.queue, TaskState.SCHEDULED, data, _decoded(data), int(float(due)), level)


def number(text: str) -> int:
    """The number that stands in an address; 0 for what is none, or more than anything here is counted by."""
    return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else 0


def _running(execute: Execute, keys: QueueKeys, _: str) -> Iterator[Place]:
    """With workers; the first ones."""
    for message in stored(execute, keys, TaskState.STARTED, limit=200):
        yield "", message


VIEWS: dict[str, Callable[[Execute, QueueKeys, str], Iterator[Place]]] = {
    "queued": _queued,
    "running": _running,
    "delayed": _delayed,
    "newest": _newest,
}


@dataclass(frozen=True, slots=True)
class Trace:
    """What Redis knows of one task id."""

    task_id: str
    queue: str
    found: Stored | None
    """Where it waits or runs."""
    ending: Ending | None
    """How it ended, or how its last attempt did."""
    revoked: bool
    kept: float | None
    """Seconds for which the outcome is kept."""
    state: TaskState
    """Where the message is in its life."""


def trace(app: TaskQ, task_id: str, queues: Sequence[str], around_ms: int = 0, place: str = "") -> Trace | None:
    """Look for a message by its id: its outcome, and in the streams about when it was sent.

    Args:
        app: the app.
        task_id: the task id.
        queues: where to look.
        around_ms: epoch milliseconds at which it came into its queue or is due, where that is known.
        place: its level and entry id as ``level@entry``, where that is known.

    Raises:
        BrokerError: Redis could not be asked.
    """
    execute = app.sync_broker.execute
    for queue in queues:
        keys = app.keys.queue(queue)
        known = find(app.sync_broker, keys, task_id, (around_ms,))
        ending, found = _ending(known.outcome), known.found
        if found is None and (ending is None or not ending.state.final):
            found = _at(execute, keys, task_id, place)
        if found is not None or ending is not None or known.revoked:
            ttl = execute("PTTL", keys.result(task_id))
            kept = ttl / 1000 if isinstance(ttl, int) and ttl > 0 else None
            return Trace(task_id, queue, found, ending, known.revoked, kept, _state(known, found, ending))
    return None


def _state(known: Known, found: Stored | None, ending: Ending | None) -> TaskState:
    """Where the message is in its life."""
    state = known.state or (ending.state if ending is not None else TaskState.UNKNOWN)
    return found.state if found is not None and state in (TaskState.UNKNOWN, TaskState.UNTRACED) else state


def _at(execute: Execute, keys: QueueKeys, task_id: str, place: str) -> Stored | None:
    """The message at *place*, if it is still there and is that one."""
    level, _, entry = place.partition("@")
    ms, _, sequence = entry.partition("-")
    if not (ms.isdecimal() and sequence.isdecimal() and level.isalnum()):
        return None
    stream = keys.stream(level)
    rows = execute("XRANGE", stream, entry, entry)
    if not rows:
        return None
    delivered = _order(entry.encode()) <= _order(last_delivered(execute, stream))
    state = TaskState.STARTED if delivered else TaskState.PENDING
    found = _in_stream(keys, state, level, rows[0][0], rows[0][1])
    return found if found.task_id == task_id else None


def _in_stream(keys: QueueKeys, state: TaskState, level: str, entry: bytes, fields: Sequence[bytes]) -> Stored:
    data = dict(zip(fields[::2], fields[1::2], strict=False)).get(b"m", b"")
    return Stored(keys.queue, state, data, _decoded(data), _order(entry)[0], level, entry.decode())


def _level(keys: QueueKeys, stream: bytes) -> str:
    return stream.removeprefix(keys.stream_prefix).decode()


def _order(entry: bytes) -> tuple[int, int]:
    ms, _, number = entry.partition(b"-")
    return int(ms), int(number or 0)


def _decoded(data: bytes) -> Message | None:
    try:
        return decode(data)
    except DecodeError:
        return None


def _ending(raw: object) -> Ending | None:
    if not isinstance(raw, bytes):
        return None
    try:
        return outcome.unpack(raw)
    except (DecodeError, IndexError, TypeError, ValueError):
        return None
