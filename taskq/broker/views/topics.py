"""The read side of event streams: topics, groups and events as they are now. Every read is bounded."""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from taskq.broker.keys import Keys, TopicKeys
from taskq.broker.views import survey
from taskq.broker.views.inspect import Command, Execute, QueueStats, count_of, names_of, of_our_types
from taskq.errors import DecodeError
from taskq.values import serialization
from taskq.values.topics import Event, queue_of

logger = logging.getLogger("taskq.topics")

PAGE = 1000


@dataclass(frozen=True, slots=True)
class TopicStats:
    """One topic at one moment."""

    topic: str
    total: int
    """Events ever published."""
    kept: int
    """Events that can still be read."""
    oldest: str | None
    """Id of the oldest event that is kept."""
    newest: str | None
    retention_ms: int
    """How long events are kept; 0: no such limit. As the last publisher declared it, like the next two."""
    max_events: int
    max_bytes: int
    groups: int


@dataclass(frozen=True, slots=True)
class GroupStats:
    """One group of a topic at one moment. Ages in seconds."""

    topic: str
    group: str
    position: str
    """The id of the last event that was given to the group."""
    read: int
    """The ordinal of that event."""
    unread: int
    """Events published after it."""
    waiting: int
    """Events in the group's queue that no worker has yet."""
    pending: int
    """Delivered to a worker, not settled."""
    delayed: int
    """Waiting for a retry."""
    dead: int
    trimmed: int
    """Events that were dropped by the topic's limits before this group saw them."""
    replays: int
    """Ranges of events that the group is reading again."""
    age: float | None
    """Of the oldest event that no worker has yet; None when there is none."""
    workers: int

    @property
    def lag(self) -> int:
        """Events that no worker of the group has yet."""
        return self.unread + self.waiting


_PLACE = re.compile(r"\d{1,20}(-\d{1,20})?")
"""An id of an entry, as a group's position is one; what else somebody wrote there is no group."""


def topic_names(execute: Execute, keys: Keys) -> list[str]:
    """Every topic that was ever used in this namespace."""
    return sorted(names_of(of_our_types(execute)("SMEMBERS", keys.topics)))


def topic_stats(execute: Execute, keys: Keys, topic: str) -> TopicStats:
    """One topic."""
    execute, own = of_our_types(execute), keys.topic(topic)
    state = _state(execute, own)
    first, last = (
        execute("XRANGE", own.events, "-", "+", "COUNT", 1),
        execute("XREVRANGE", own.events, "+", "-", "COUNT", 1),
    )
    return TopicStats(
        topic=topic,
        total=_number(state, "total"),
        kept=execute("XLEN", own.events) or 0,
        oldest=first[0][0].decode() if first else None,
        newest=last[0][0].decode() if last else None,
        retention_ms=_number(state, "age"),
        max_events=_number(state, "events"),
        max_bytes=_number(state, "bytes"),
        groups=len(_groups(state)),
    )


def group_names(execute: Execute, keys: Keys, topic: str) -> list[str]:
    """The groups that have a position in *topic*."""
    return _groups(_state(execute, keys.topic(topic)))


def group_stats(execute: Execute, keys: Keys, topic: str) -> list[GroupStats]:
    """The groups of one topic: a handful of commands for each."""
    execute, own = of_our_types(execute), keys.topic(topic)
    state = _state(execute, own)
    return [_group(execute, keys, own, state, group) for group in _groups(state)]


def read_steps(
    keys: Keys, topics: Sequence[str], now: float
) -> Generator[Sequence[Command], list[Any], list[GroupStats]]:
    """The groups of all *topics* in three steps; see :func:`taskq.broker.views.inspect.run_steps`.

    A topic or group whose keys hold something else is left out.

    Args:
        keys: of the namespace.
        topics: names.
        now: epoch seconds on Redis's clock.
    """
    replies = yield [("HGETALL", keys.topic(topic).state) for topic in topics]
    states = {topic: _pairs(reply) for topic, reply in zip(topics, replies, strict=True) if isinstance(reply, list)}
    groups = [(topic, group) for topic, state in states.items() for group in _groups(state)]
    heads = yield [("XRANGE", keys.topic(t).events, f"({states[t][f'cursor:{g}']}", "+", "COUNT", 1) for t, g in groups]
    views = yield from survey.read_steps([keys.queue(queue_of(topic, group)) for topic, group in groups])
    queues = {view.stats.queue: view.stats for view in views}
    return [
        _of_group(topic, states[topic], group, queues[name], head, now)
        for (topic, group), head in zip(groups, heads, strict=True)
        if (name := queue_of(topic, group)) in queues and isinstance(head, list)
    ]


def _group(execute: Execute, keys: Keys, own: TopicKeys, state: dict[str, str], group: str) -> GroupStats:
    view = survey.read_queue(execute, keys.queue(queue_of(own.topic, group)))
    head = execute("XRANGE", own.events, f"({state[f'cursor:{group}']}", "+", "COUNT", 1)
    return _of_group(own.topic, state, group, view.stats, head, view.at)


def _of_group(
    topic: str, state: dict[str, str], group: str, queue: QueueStats, next_event: list[Any], now: float
) -> GroupStats:
    """One group, with the first event after its position."""
    position, read, total = state[f"cursor:{group}"], _number(state, f"read:{group}"), _number(state, "total")
    lost, age = 0, queue.oldest_age
    if read < total:
        first = _ordinal(next_event[0][1]) if next_event else total + 1
        lost = max((first or 0) - read - 1, 0)  # dropped since a worker looked last, and not yet counted there
        if next_event:
            born = int(next_event[0][0].partition(b"-")[0]) / 1000
            age = max(age or 0.0, now - born)
    return GroupStats(
        topic=topic,
        group=group,
        position=position,
        read=read,
        unread=max(total - read - lost, 0),
        waiting=queue.lag,
        pending=queue.pending,
        delayed=queue.delayed,
        dead=queue.dead,
        trimmed=_number(state, f"trimmed:{group}") + lost,
        replays=state.get(f"replays:{group}", "").count(","),
        age=age,
        workers=queue.workers,
    )


def read_page(
    execute: Execute, keys: TopicKeys, after: str = "0-0", until: str = "+", count: int = PAGE
) -> tuple[list[Event], str, bool]:
    """Up to *count* events with ids above *after* and not above *until*; the id to go on after; whether to go on.

    What is not an event of ours is skipped with a log line. Payloads are decoded.
    """
    entries = of_our_types(execute)("XRANGE", keys.events, f"({after}", until, "COUNT", count)
    events = []
    for entry, fields in entries:
        event = _event(keys.topic, entry, fields)
        if event is None:
            logger.error("entry %s of topic %s is not an event; skipped", entry.decode(), keys.topic)
        else:
            events.append(event)
    return events, entries[-1][0].decode() if entries else after, len(entries) == count


def newest(execute: Execute, keys: TopicKeys, count: int, until: str = "+") -> list[Event]:
    """The last *count* events with ids not above *until*, oldest first."""
    entries = of_our_types(execute)("XREVRANGE", keys.events, until, "-", "COUNT", count) if count else []
    found = [_event(keys.topic, entry, fields) for entry, fields in reversed(entries)]
    return [event for event in found if event is not None]


def pages(
    execute: Execute, keys: TopicKeys, after: str = "0-0", until: str = "+", count: int = PAGE
) -> Iterator[list[Event]]:
    """The events with ids above *after* and not above *until*, a page at a time: memory stays flat."""
    more = True
    while more:
        events, after, more = read_page(execute, keys, after, until, count)
        if events:
            yield events


def _event(topic: str, entry: bytes, fields: Sequence[bytes]) -> Event | None:
    ordinal = _ordinal(fields)
    if ordinal is None:
        return None
    try:
        payload = serialization.loads(fields[1])
        key = fields[5].decode() if len(fields) > 5 else None
    except (DecodeError, UnicodeDecodeError):
        return None
    return Event(topic, entry.decode(), ordinal, key, payload)


def _ordinal(fields: Sequence[bytes]) -> int | None:
    if len(fields) >= 4 and fields[0] == b"m" and fields[2] == b"n" and fields[3].isdigit():
        return int(fields[3])
    return None


def _state(execute: Execute, keys: TopicKeys) -> dict[str, str]:
    return _pairs(of_our_types(execute)("HGETALL", keys.state))


def _pairs(flat: list[bytes]) -> dict[str, str]:
    return {
        name.decode(errors="replace"): value.decode(errors="replace")
        for name, value in zip(flat[::2], flat[1::2], strict=True)
    }


def _groups(state: dict[str, str]) -> list[str]:
    cursors = (name for name, place in state.items() if name.startswith("cursor:") and _PLACE.fullmatch(place))
    return sorted(name.removeprefix("cursor:") for name in cursors)


def _number(state: dict[str, str], field: str) -> int:
    return count_of(state.get(field))
