"""Time zones: what a clock shows, when it is that, and when clocks change.

Only the direction from instant to wall clock is ever asked of a tzinfo: it has exactly one answer.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, available_timezones

from taskq.errors import ScheduleError, nearest
from taskq.values.checks import shown
from taskq.values.schedule.base import SECOND

_PROBE = timedelta(hours=6)
"""No zone changes its offset twice within this time."""
_LONGEST_FOLD = timedelta(hours=26)
"""Clocks have never gone back further: offsets lie between -12 and +14 hours."""


_UTC = frozenset({"UTC", "Etc/UTC", "UCT", "Etc/UCT", "Zulu", "Etc/Zulu", "Universal", "Etc/Universal"})
"""Names of UTC. They are known also where there is no time zone data, which ``ZoneInfo("UTC")`` wants."""


def zone_of(tz: object) -> tzinfo:
    """The zone that the user means.

    Raises:
        ScheduleError: unknown, not a zone, or this machine has no time zone data.
    """
    # the name, where there is one, makes equal zones of different libraries equal
    name = tz if isinstance(tz, str) else getattr(tz, "key", None) or getattr(tz, "zone", None)
    if isinstance(name, str):
        return UTC if name in _UTC else _named_zone(name)
    if isinstance(tz, tzinfo):
        return tz
    raise ScheduleError(f"tz: write a name such as 'Europe/Berlin' or a tzinfo, not {shown(tz)}")


def _named_zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        known = available_timezones()
        if not known:
            raise ScheduleError(
                f"time zone {name!r} cannot be read: this machine has no time zone data; install the Python package"
                " tzdata (pip install tzdata) or the system's tzdata, or use UTC"
            ) from None
        close = nearest(name, known)
        hint = f"did you mean {close!r}?" if close else "write a name such as 'Europe/Berlin'"
        raise ScheduleError(f"unknown time zone {name!r}; {hint}") from None


def wall_at(instant: datetime, zone: tzinfo) -> datetime:
    """What a clock in *zone* shows at *instant*, as a naive datetime."""
    return instant.astimezone(zone).replace(tzinfo=None)


def offset_at(instant: datetime, zone: tzinfo) -> timedelta:
    return wall_at(instant, zone) - instant.replace(tzinfo=None)


def instant_of(wall: datetime, near: datetime, zone: tzinfo) -> datetime:
    """When a clock in *zone* shows *wall*, if the UTC offset stays as it is at *near*."""
    return (wall - offset_at(near, zone)).replace(tzinfo=UTC)


def next_change(zone: tzinfo, start: datetime, end: datetime) -> datetime | None:
    """The first instant in (start, end] with another UTC offset than *start*, if any; to the second."""
    before, offset = start, offset_at(start, zone)
    while before < end:
        after = min(before + _PROBE, end)
        if offset_at(after, zone) != offset:
            return _bisect(zone, before, after)
        before = after
    return None


def _bisect(zone: tzinfo, before: datetime, after: datetime) -> datetime:
    offset = offset_at(before, zone)
    while after - before > SECOND:
        middle = before + (after - before) // 2 // SECOND * SECOND
        if offset_at(middle, zone) == offset:
            before = middle
        else:
            after = middle
    return after


def latest_wall(zone: tzinfo, instant: datetime) -> datetime:
    """The latest time that a clock in *zone* has shown up to *instant*; it may have gone back since."""
    latest = wall_at(instant, zone)
    start = instant - _LONGEST_FOLD
    while (change := next_change(zone, start, instant)) is not None:
        latest = max(latest, wall_at(change - SECOND, zone))
        start = change
    return latest
