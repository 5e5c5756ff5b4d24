"""Schedules as plain data, so that they can be kept in Redis and read by processes without the app's code."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from taskq.errors import ScheduleError
from taskq.values.schedule.base import Schedule
from taskq.values.schedule.crontime import Cron
from taskq.values.schedule.instant import At, at
from taskq.values.schedule.interval import Every
from taskq.values.schedule.zones import zone_of

_MICROSECOND = timedelta(microseconds=1)


def to_plain(schedule: Schedule) -> dict[str, Any] | None:
    """*schedule* as plain data; None when it is of a class or in a zone that has no plain form."""
    match schedule:
        case Every(interval):
            return {"every": interval // _MICROSECOND}
        case At(when):
            return {"at": when}
        case Cron(expression, zone, both_days):
            plain = _plain_zone(UTC if zone is None else zone)
            return None if plain is None else {"cron": expression, "tz": plain, "both": both_days}
    return None


def from_plain(plain: Mapping[str, Any]) -> Schedule:
    """The schedule that :func:`to_plain` made *plain* of.

    Raises:
        ScheduleError: it was not made by this release or an earlier one.
    """
    match plain:
        case {"every": int(micros)} if micros > 0:
            return Every(micros * _MICROSECOND)
        case {"at": datetime() as when}:
            return at(when)
        case {"cron": str(expression), "tz": int() | str() as zone, "both": bool(both_days)}:
            return Cron(expression, _zone_from(zone), both_days)
    raise ScheduleError(f"{plain!r} is not a schedule that this release knows")


def _plain_zone(zone: tzinfo) -> str | int | None:
    """The name of a zone, or the seconds of a fixed offset."""
    if zone is UTC:
        return "UTC"
    if isinstance(zone, ZoneInfo) and zone.key:
        return zone.key
    if isinstance(zone, timezone):
        offset = zone.utcoffset(None)
        return int(offset.total_seconds()) if offset % timedelta(seconds=1) == timedelta(0) else None
    return None


def _zone_from(plain: str | int) -> tzinfo:
    return zone_of(plain) if isinstance(plain, str) else timezone(timedelta(seconds=plain))
