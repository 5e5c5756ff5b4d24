"""Topics and events: plain values, checked when they are made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, wraps
from typing import Any

import msgspec

from taskq.errors import ArgumentsError, ConfigError
from taskq.values.checks import check_count, shown
from taskq.values.config import check_name
from taskq.values.durations import Duration, milliseconds, moment
from taskq.values.functions import is_async
from taskq.values.message import Message

DEFAULT_RETENTION = "7d"
MAX_KEY_LENGTH = 200
MAX_LIMIT = 10**15
"""Of events and bytes: what Lua, which has doubles alone, counts exactly."""

Wire = Sequence[Any]
"""An event as the argument of a subscriber's message: id, ordinal, key, payload."""


class Event(msgspec.Struct, frozen=True):
    """One published event, as a subscriber or reader gets it."""

    topic: str
    id: str
    """``<epoch ms>-<n>``: rises with every event of the topic."""
    ordinal: int
    """Which event of the topic it is, counted from 1."""
    key: str | None
    """What the publisher gave as ``key=``: events of one key belong together."""
    payload: Any

    @property
    def published_at(self) -> datetime:
        """When Redis accepted it, to the millisecond."""
        return moment(int(self.id.partition("-")[0]))


class Topic(msgspec.Struct, frozen=True):
    """A named stream of events, and how long it keeps them.

    Events are dropped by age, count or size, whichever comes first, and whether or not every group has read them.
    Redis drops them about a hundred at a time, so a topic may hold somewhat more than it must.

    Args:
        name: 1 to 100 letters, digits, ``_``, ``-`` or ``.``.
        retention: how long events are kept. Default 7 days, or for ever when one of the other limits is given.
        max_events: how many are kept.
        max_bytes: how much memory of Redis they may take.

    Raises:
        ConfigError: a name or limit that cannot be used.
    """

    name: str
    retention: Duration | None = None
    max_events: int | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        check_name(self.name, "a topic's name")
        for what, value in (("max_events", self.max_events), ("max_bytes", self.max_bytes)):
            if value is not None:
                check_count(value, f"topic {self.name!r}: {what}", 1, MAX_LIMIT)
        if self.retention is not None and milliseconds(self.retention, f"topic {self.name!r}: retention") < 1:
            raise ConfigError(f"topic {self.name!r}: retention must be longer than nothing; write for example '7d'")

    @property
    def limits(self) -> tuple[int, int, int]:
        """Age in milliseconds, number of events, bytes; 0 where there is no limit."""
        return _limits(self.retention, self.max_events, self.max_bytes)


@lru_cache(maxsize=256)
def _limits(retention: Duration | None, max_events: int | None, max_bytes: int | None) -> tuple[int, int, int]:
    # cached: asked for with every event that is published
    by_default = None if max_events or max_bytes else DEFAULT_RETENTION
    kept = by_default if retention is None else retention
    return 0 if kept is None else milliseconds(kept), max_events or 0, max_bytes or 0


def queue_of(topic: str, group: str) -> str:
    """The name of the queue of a topic's group: ``orders/analytics``. No queue of a user's has a ``/``."""
    return f"{topic}/{group}"


def check_key(key: object) -> str | None:
    """Return *key* if it can be an event's key.

    Raises:
        ConfigError: empty, too long, no text, or with characters that do not print.
    """
    if key is None or (isinstance(key, str) and 0 < len(key) <= MAX_KEY_LENGTH and key.isprintable()):
        return key
    raise ConfigError(f"key must be 1 to {MAX_KEY_LENGTH} printable characters, or None; not {shown(key)}")


def check_instant(value: object, what: str) -> datetime:
    """Return *value* in UTC if it is an aware datetime.

    Raises:
        ConfigError: anything else, also a naive datetime: nobody knows which instant that is; or one that is not in
            the years 1 to 9999 of UTC.
    """
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ConfigError(f"{what} must be a timezone-aware datetime such as datetime.now(UTC), not {shown(value)}")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ConfigError(f"{what}: {value.isoformat()} is out of range") from None


def epoch_ms(instant: datetime) -> int:
    """Epoch milliseconds of *instant*."""
    return round(instant.timestamp() * 1000)


def from_wire(topic: str, wire: Wire | Event) -> Event:
    """The event that a subscriber's message carries; what is one already is returned as it is."""
    return wire if isinstance(wire, Event) else Event(topic, *wire)


def carries_event(message: Message) -> bool:
    """Whether *message* is a copy of an event for a group: ``dispatch.lua`` makes its id of the event's."""
    if not isinstance(message.id, bytes) or message.kwargs or len(message.args) != 1:
        return False
    ms, sequence = (int.from_bytes(message.id[at : at + 6]) for at in (0, 6))
    wire = message.args[0]
    return isinstance(wire, list) and len(wire) == 4 and wire[0] == f"{ms}-{sequence}"


def check_same_event(wire: Wire, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Make sure that a subscriber's new arguments are the event in *wire*, if with another payload.

    Raises:
        ArgumentsError: they are not; it says what to write.
    """
    event = args[0] if len(args) == 1 and not kwargs else None
    if not isinstance(event, (list, tuple)) or len(event) != 4 or list(event[:3]) != list(wire[:3]):
        same = ", ".join(json.dumps(part) for part in wire[:3])
        raise ArgumentsError(f"of an event only the payload may change; its arguments are [[{same}, PAYLOAD]]")


def unwrapping(function: Callable[..., Any], topic: str, *, bind: bool) -> Callable[..., Any]:
    """*function* of an event (after the context, with *bind*) as one of the event's wire form."""
    if is_async(function):

        async def acall(*args: Any) -> Any:
            return await function(*args[:-1], from_wire(topic, args[-1]))

        return wraps(function)(acall)

    def call(*args: Any) -> Any:
        return function(*args[:-1], from_wire(topic, args[-1]))

    return wraps(function)(call)
