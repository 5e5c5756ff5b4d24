"""Typed builders for the scripts of event streams; as :mod:`taskq.broker.scripts` for those of queues."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from taskq.broker.calls import Arg, Call, load
from taskq.broker.keys import QueueKeys, TopicKeys
from taskq.broker.scripts import PRODUCER_TTL_MS, SENT_TTL_MS
from taskq.values.message import DEFAULT_PRIORITY

PUBLISH = load("publish")
RELAY_EVENTS = load("relay_events")
DISPATCH = load("dispatch")
SEEK = load("seek")
REREAD = load("reread")
COMMIT = load("commit")
TRIM = load("trim")

PAGE = 500
"""Most events copied by one call."""
MOST_WAITING = 1000
"""Copies that wait in a group's queue at most."""


def publish(
    keys: TopicKeys, limits: tuple[int, int, int], producer: bytes, sequence: int, events: Sequence[Arg]
) -> Call:
    """Events into their topic; answers the id of the last, or None when the call was seen before.

    *limits* are age in ms, number and bytes of the events to keep (0: no limit); *events* alternates key
    (``""`` for none) and payload, for at most :data:`taskq.broker.scripts.MAX_PER_CALL` events.
    """
    return Call(
        PUBLISH,
        (keys.producer(producer), keys.events, keys.state),
        (sequence, PRODUCER_TTL_MS, keys.published, *limits, *events),
    )


def relay_events(keys: TopicKeys, limits: tuple[int, int, int], events: Sequence[Arg]) -> Call:
    """Events that were kept elsewhere, each once by its id; answers how many were new.

    *limits* as for :func:`publish`; *events* are id, key (``""`` for none) and payload, for at most
    :data:`taskq.broker.scripts.MAX_PER_CALL` events.
    """
    return Call(
        RELAY_EVENTS, (keys.events, keys.state, keys.sent_prefix), (SENT_TTL_MS, keys.published, *limits, *events)
    )


def seek(keys: TopicKeys, group: str, where: str, *, only_first: bool = False, only_known: bool = False) -> Call:
    """Set a group's position; answers the id after which it reads, and the number of events before that.

    *where* is ``earliest``, ``latest``, epoch ms as text, or ``after <event id>``. With *only_first*, a group that
    has a position keeps it. With *only_known*, one that has none gets none, and the answer is None.
    """
    which = "new" if only_first else "known" if only_known else ""
    return Call(SEEK, (keys.events, keys.state), (group, where, keys.published, which))


def dispatch(keys: TopicKeys, queue: QueueKeys, group: str, task: str, *, ordered: bool = False) -> Call:
    """Events into the group's queue; answers ``[copied, missed, what next]``, see the ``NEXT_`` constants."""
    packed = msgspec.msgpack.encode(task)
    return Call(
        DISPATCH,
        (keys.events, keys.state, queue.stream(DEFAULT_PRIORITY), queue.delayed),
        (group, packed, PAGE, MOST_WAITING, "1" if ordered else "", queue.prefix),
    )


def reread(keys: TopicKeys, group: str, first: str, end_ms: int | None, token: str) -> Call:
    """Have a group read a range of its topic again; answers how many events, -1 without a position, -2 too many."""
    end = "" if end_ms is None else end_ms
    return Call(REREAD, (keys.events, keys.state), (group, first, end, keys.published, token))


def commit(keys: TopicKeys, group: str, after: str, to: str, ordinal: int, missed: int) -> Call:
    """Move a reader's group on from *after* to *to*; answers 1, or 0 when somebody else has moved it."""
    return Call(COMMIT, (keys.state,), (group, after, to, ordinal, missed))


def trim(keys: TopicKeys) -> Call:
    """Drop what a topic need not keep; answers how many events are left."""
    return Call(TRIM, (keys.events, keys.state), ())


NEXT_MORE, NEXT_ASLEEP, NEXT_FULL, NEXT_SEEK = range(4)
"""What a dispatcher does next: call again, wait for a wake-up, wait until the queue is emptier, set a position."""
