"""Which fire times are to be fired now. Pure: no clock, no Redis."""

from __future__ import annotations

from datetime import datetime, timedelta

from taskq.schedule import Schedule, fire_times

MAX_MADE_UP = 1000
"""Most missed fire times that ``catch_up="all"`` makes up for: the latest ones."""
MAX_AT_ONCE = 1000
"""Most fire times of one schedule fired in one go; what is left follows at once."""

_NO_LIMIT = 10**9


def due_times(
    schedule: Schedule, last: datetime, watched_since: datetime, now: datetime, catch_up: str
) -> list[datetime]:
    """The fire times to fire now, in order.

    Args:
        schedule: the schedule.
        last: its last fire time that was fired, or when the schedule was first seen.
        watched_since: until here fire times count as missed, and *catch_up* decides; later ones are on time.
        now: the present.
        catch_up: ``none``, ``last`` or ``all`` of the missed ones.
    """
    made_up: list[datetime] = []
    if last < watched_since and catch_up != "none":
        count = 1 if catch_up == "last" else MAX_MADE_UP
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
