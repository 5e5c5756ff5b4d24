"""Which fire times are to be fired now, and when exactly. Pure: no clock, no Redis."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from taskq.values.schedule import Schedule, fire_times

MAX_AT_ONCE = 1000
"""Most fire times of one schedule fired in one go; what is left follows at once."""

_NO_LIMIT = 10**9
_INSTANT = timedelta(microseconds=1)


def due_times(
    schedule: Schedule, last: datetime, watched_since: datetime, now: datetime, catch_up: str, max_catch_up: int
) -> list[datetime]:
    """The fire times to fire now, in order.

    Args:
        schedule: the schedule.
        last: its last fire time that was fired, or when the schedule was first seen.
        watched_since: until here fire times count as missed, and *catch_up* decides; later ones are on time.
        now: the present.
        catch_up: ``none``, ``last`` or ``all`` of the missed ones.
        max_catch_up: most of ``all``: the latest ones.
    """
    made_up: list[datetime] = []
    if last < watched_since and catch_up != "none":
        count = 1 if catch_up == "last" else max_catch_up
        made_up = latest_times(schedule, last, min(watched_since, now), count)
    return made_up + fire_times(schedule, max(last, watched_since), now, MAX_AT_ONCE)


def latest_times(schedule: Schedule, after: datetime, until: datetime, count: int) -> list[datetime]:
    """The last *count* fire times after *after*, up to and including *until*, in order.

    Looks back from *until* in growing steps: a year without beat costs no more than the answer is long.
    """
    window = timedelta(seconds=1)
    while True:
        start = max(after, until - window)
        found = fire_times(schedule, start, until, _NO_LIMIT)
        if len(found) >= count or start == after:
            return found[-count:]
        window *= 2


def missed_between(schedule: Schedule, last: datetime, fire_time: datetime) -> int:
    """How many fire times lie between two that were fired; at most :data:`MAX_AT_ONCE` are counted."""
    return len(fire_times(schedule, last, fire_time - _INSTANT, MAX_AT_ONCE))


def jittered(name: str, fire_time: datetime, jitter: float) -> datetime:
    """When a fire time is fired: up to *jitter* seconds later, by an amount that every beat computes alike."""
    if not jitter:
        return fire_time
    digest = hashlib.blake2b(f"{name}@{fire_time.timestamp():.6f}".encode(), digest_size=8).digest()
    return fire_time + timedelta(seconds=jitter * int.from_bytes(digest, "big") / 2**64)
