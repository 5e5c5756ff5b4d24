"""When a periodic task is due: cron lines, intervals and single instants.

A schedule is a plain value with one question to answer: :meth:`Schedule.next_after`. It keeps no state and
reads no clock, so any number of beat processes agree on the fire times.

**Daylight saving time.** A cron line is written in the wall-clock time of its zone, and clocks jump. The rule
is that of Vixie cron; the hour field chooses:

* The hour is fixed (``0 2 * * *``): the line is an alarm clock. It rings once, at the first instant when the
  clock shows that time or a later one. A time that the clock skips rings when the clock jumps over it
  (several skipped times ring once); a time that the clock shows twice rings the first time.
* The hour field starts with ``*`` (``*/10 * * * *``, ``0 */2 * * *``): the line is a rhythm. It fires at
  every instant whose wall-clock time matches: in both passes of a repeated hour, and never for a time that
  does not exist.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Protocol, TypeAlias, runtime_checkable
from zoneinfo import ZoneInfo, available_timezones

from taskq.durations import Duration, seconds
from taskq.errors import ConfigError, ScheduleError

SHORTEST_INTERVAL: Final = 0.1
"""Seconds. Work that is due more often is a loop, not a schedule."""
LONGEST_INTERVAL: Final = 36500 * 86400.0
"""Seconds."""

CronField: TypeAlias = int | str | Iterable[int | str]
"""One field of :func:`crontab`: a number, cron text such as ``"*/5"``, or several of these."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


@runtime_checkable
class Schedule(Protocol):
    """What a periodic task can be registered with."""

    @property
    def spec(self) -> str:
        """The schedule in one line, for people."""

    def next_after(self, after: datetime) -> datetime | None:
        """The first fire time strictly after *after*, in UTC; ``None`` if there is none.

        Raises:
            ScheduleError: *after* has no time zone.
        """


def fire_times(schedule: Schedule, after: datetime, until: datetime, limit: int) -> list[datetime]:
    """The fire times after *after*, up to and including *until*, in order; at most the first *limit*.

    Raises:
        ScheduleError: *after* or *until* has no time zone.
    """
    until = _utc(until)
    found: list[datetime] = []
    due = schedule.next_after(after)
    while due is not None and due <= until and len(found) < limit:
        found.append(due)
        due = schedule.next_after(due)
    return found


# --- intervals and single instants ---


@dataclass(frozen=True, slots=True, repr=False)
class Every:
    """Fires at the multiples of an interval since 1970-01-01 00:00 UTC. Made by :func:`every`."""

    interval: timedelta

    @property
    def spec(self) -> str:
        return f"every {_short(self.interval)}"

    def __repr__(self) -> str:
        return f"every({_short(self.interval)!r})"

    def next_after(self, after: datetime) -> datetime | None:
        """See :meth:`Schedule.next_after`."""
        count = (_utc(after) - _EPOCH) // self.interval
        try:
            return _EPOCH + (count + 1) * self.interval
        except OverflowError:  # the calendar ends with the year 9999
            return None


def every(interval: Duration) -> Every:
    """Every *interval*, at its multiples since the epoch: ``every("15m")`` fires at :00, :15, :30 and :45.

    The time of the first start plays no part: neither restarts nor more beat processes shift the fire times.

    Args:
        interval: seconds, a ``timedelta`` or text such as ``"5m"``; 0.1 seconds to 36500 days.

    Raises:
        ScheduleError: no duration, or too short or too long.
    """
    try:
        length = seconds(interval, "every")
    except ConfigError as error:
        raise ScheduleError(str(error)) from None
    if not SHORTEST_INTERVAL <= length <= LONGEST_INTERVAL:
        raise ScheduleError(f"every: {interval!r} is out of range; write 0.1 seconds to 36500 days")
    return Every(timedelta(seconds=length))


@dataclass(frozen=True, slots=True, repr=False)
class At:
    """Fires once. Made by :func:`at`."""

    when: datetime

    @property
    def spec(self) -> str:
        return f"at {self.when.replace(tzinfo=None).isoformat()}Z"

    def __repr__(self) -> str:
        return f"at(datetime.fromisoformat({self.when.isoformat()!r}))"

    def next_after(self, after: datetime) -> datetime | None:
        """See :meth:`Schedule.next_after`."""
        return self.when if self.when > _utc(after) else None


def at(when: datetime) -> At:
    """Once, at *when*.

    Raises:
        ScheduleError: *when* is no datetime, or has no time zone.
    """
    return At(_utc(when))


def _utc(instant: object) -> datetime:
    if not isinstance(instant, datetime):
        raise ScheduleError(f"{instant!r} is no datetime")
    if instant.utcoffset() is None:
        raise ScheduleError(f"{instant!r} has no time zone; write datetime(..., tzinfo=UTC)")
    return instant.astimezone(UTC)


def _short(interval: timedelta) -> str:
    """*interval* as :func:`every` reads it, in the largest unit that divides it."""
    for unit, length in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1))):
        if not interval % length:
            return f"{interval // length}{unit}"
    whole, part = divmod(interval, _SECOND)
    return f"{whole}.{part.microseconds:06d}".rstrip("0").rstrip(".") + "s"


# --- cron ---


@dataclass(frozen=True, slots=True, repr=False)
class Cron:
    """Fires when the wall clock of a zone matches a cron line. Made by :func:`cron` and :func:`crontab`.

    Raises:
        ScheduleError: the line cannot be read, or never fires.
    """

    expression: str
    zone: tzinfo = UTC
    both_days: bool = False
    """Whether day of month *and* day of week must match when both are given; cron asks for either."""

    def __post_init__(self) -> None:
        _check_fields(self.expression)
        # the calendar repeats within the 50 years that croniter searches, so any start will do
        if self._next_match(datetime(2000, 1, 1)) is None:
            raise ScheduleError(f"cron line {self.expression!r} never fires: no such date exists")

    @property
    def spec(self) -> str:
        both = " (both days)" if self.both_days else ""
        return f"cron {self.expression}{both} {self.zone!s}"

    def __repr__(self) -> str:
        tz = "" if self.zone is UTC else f", tz={str(self.zone)!r}"
        if not self.both_days:
            return f"cron({self.expression!r}{tz})"
        minute, hour, day, month, weekday = self.expression.split()
        days = f"day_of_week={weekday!r}, day_of_month={day!r}, month_of_year={month!r}"
        return f"crontab({minute!r}, {hour!r}, {days}{tz})"

    def next_after(self, after: datetime) -> datetime | None:
        """See :meth:`Schedule.next_after`."""
        start = _utc(after).replace(microsecond=0)
        try:
            return self._next_beat(start) if self._is_rhythm() else self._next_ring(start)
        except OverflowError:  # the calendar ends with the year 9999
            return None

    def _is_rhythm(self) -> bool:
        return _fields(self.expression)[-4].startswith("*")

    def _next_beat(self, start: datetime) -> datetime | None:
        """The next instant whose wall-clock time matches, one stretch of constant UTC offset at a time."""
        wall = _wall(start, self.zone)
        while (match := self._next_match(wall)) is not None:
            candidate = _instant(match, start, self.zone)
            change = _next_change(self.zone, start, candidate)
            if change is None:
                return candidate
            # the first reading after the change may match as well, and the search excludes its start
            start, wall = change, _wall(change, self.zone) - _SECOND
        return None

    def _next_ring(self, start: datetime) -> datetime | None:
        """The instant when the wall clock reaches or passes the first match that it has not yet reached."""
        match = self._next_match(_latest_wall(self.zone, start))
        while match is not None:
            candidate = _instant(match, start, self.zone)
            change = _next_change(self.zone, start, candidate)
            if change is None:
                return candidate
            if _wall(change, self.zone) >= match:
                return change
            start = change
        return None

    def _next_match(self, wall: datetime) -> datetime | None:
        """The first wall-clock time after *wall* that matches, if any; time zones play no part here."""
        from croniter import croniter

        try:
            found: datetime = croniter(_croniter_line(self.expression), wall, day_or=not self.both_days).get_next(
                datetime
            )
        except (ValueError, OverflowError):  # nothing within 50 years, or past the year 9999
            return None
        return found


def cron(expression: str, tz: str | tzinfo | None = None) -> Cron:
    """A cron line: ``cron("0 2 * * *", tz="Asia/Seoul")``.

    Five fields: minute, hour, day of month, month, day of week (0 and 7 are Sunday). With six, the first is
    the second, as in Quartz, Spring and most other schedulers that have seconds.

    Understood are ``*``, ``*/5``, ``1-5``, ``1,3``, names (``mon``, ``jan``), ``L`` (last day of the month),
    ``15W`` (weekday nearest to the 15th), ``fri#2`` (second Friday), ``L5`` (last Friday) and the aliases
    ``@hourly``, ``@daily``, ``@midnight``, ``@weekly``, ``@monthly``, ``@yearly`` and ``@annually``.
    If both day fields are restricted, a match of either is enough, as cron has it.

    Args:
        expression: the line.
        tz: a name such as ``"Europe/Berlin"``, or a ``tzinfo``; UTC by default. The top of this module says
            what happens when its clocks change.

    Raises:
        ScheduleError: the line cannot be read or never fires, or the zone is unknown.
    """
    if not isinstance(expression, str):
        raise ScheduleError(f"a cron line is text such as '0 2 * * *', not {expression!r}")
    return Cron(" ".join(expression.split()), _zone(tz))


def crontab(
    minute: CronField = "*",
    hour: CronField = "*",
    *,
    day_of_week: CronField = "*",
    day_of_month: CronField = "*",
    month_of_year: CronField = "*",
    tz: str | tzinfo | None = None,
) -> Cron:
    """Celery's ``crontab``: the fields of a cron line by name, e.g. ``crontab(minute=0, hour="*/3")``.

    As in Celery, and unlike :func:`cron`, a day must match both ``day_of_week`` and ``day_of_month``. These
    two and the month are keywords only: Celery and cron order them differently.

    Args:
        minute, hour, day_of_week, day_of_month, month_of_year: a number, cron text, or several of these.
        tz: as for :func:`cron`.

    Raises:
        ScheduleError: a field cannot be read, the schedule never fires, or the zone is unknown.
    """
    fields = [
        _field_text(minute, "minute"),
        _field_text(hour, "hour"),
        _field_text(day_of_month, "day_of_month"),
        _field_text(month_of_year, "month_of_year"),
        _field_text(day_of_week, "day_of_week"),
    ]
    both_days = fields[2] != "*" and fields[4] != "*"
    return Cron(" ".join(fields), _zone(tz), both_days)


# --- the text of a cron line ---

_FIELDS = {
    "second": "0-59",
    "minute": "0-59",
    "hour": "0-23",
    "day of month": "1-31, L or 15W",
    "month": "1-12 or jan-dec",
    "day of week": "0-7 (0 and 7 are Sunday), sun-sat, fri#2 or L5",
}
_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FULL_NAMES = re.compile(
    r"\b(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday|january|february|march|april|june|july"
    r"|august|september|october|november|december)\b",
    re.IGNORECASE,
)
_RANGE_OF_ONE = re.compile(r"\b(\w+)-\1\b(?:/\d+)?", re.IGNORECASE)


def _field_text(value: CronField, name: str) -> str:
    """One argument of :func:`crontab` as the field of a cron line."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        # sets have no order, and equal schedules must compare equal; by length first puts 9 before 10
        text = ",".join(sorted({_field_text(item, name) for item in value}, key=lambda item: (len(item), item)))
    elif isinstance(value, (int, str)) and not isinstance(value, bool):
        text = "".join(str(value).split())
    else:
        raise ScheduleError(f"crontab {name}: write a number, text such as '*/5' or several of these, not {value!r}")
    if not text:
        raise ScheduleError(f"crontab {name} is empty; write '*' for any")
    return _FULL_NAMES.sub(lambda name: name[0][:3], text)


def _fields(expression: str) -> list[str]:
    """The fields of the line, aliases resolved: five, or six with the second first.

    Raises:
        ScheduleError: any other number of fields.
    """
    if expression.startswith("@"):
        if expression.lower() not in _ALIASES:
            known = " ".join(_ALIASES)
            raise ScheduleError(f"cron line {expression!r} is unknown; write one of {known}, or use every('5m')")
        expression = _ALIASES[expression.lower()]
    found = expression.split()
    if len(found) not in (5, 6):
        raise ScheduleError(
            f"cron line {expression!r} has {len(found)} fields; write 5 (minute, hour, day of month, month, "
            "day of week) or 6 (second first)"
        )
    return found


def _check_fields(expression: str) -> None:
    """Try each field by itself, so that the error can name the one that is wrong.

    Raises:
        ScheduleError: a field cannot be read.
    """
    from croniter import croniter

    fields = _fields(expression)
    for position, (name, field) in enumerate(zip(list(_FIELDS)[-len(fields) :], fields, strict=True)):
        others = ["*"] * len(fields)
        others[position] = field
        try:
            # croniter replaces H and R by random numbers: each beat process would see another schedule
            if field[0] in "hHrR":
                raise ValueError(field)
            croniter.expand(_croniter_line(" ".join(others)))
        except (ValueError, LookupError, TypeError, AttributeError):
            raise ScheduleError(
                f"cron line {expression!r}: {name} {field!r} cannot be read; write {_FIELDS[name]}, or *"
            ) from None


def _croniter_line(expression: str) -> str:
    """The line as croniter wants it: seconds last, and no range of one value."""
    fields = _fields(expression)
    if len(fields) == 6:
        fields = [*fields[1:], fields[0]]
    # croniter takes 5-5 for a full turn of the clock, cron for 5
    return " ".join(_RANGE_OF_ONE.sub(r"\1", field) for field in fields)


# --- time zones ---
#
# Only the direction from instant to wall clock is ever asked of a tzinfo: it has exactly one answer.

_PROBE = timedelta(hours=6)
"""No zone changes its offset twice within this time."""
_LONGEST_FOLD = timedelta(hours=26)
"""Clocks have never gone back further: offsets lie between -12 and +14 hours."""


def _zone(tz: object) -> tzinfo:
    """The zone that the user means.

    Raises:
        ScheduleError: unknown, or no zone at all.
    """
    if tz is None:
        return UTC
    # the name, where there is one, makes equal zones of different libraries equal
    name = tz if isinstance(tz, str) else getattr(tz, "key", None) or getattr(tz, "zone", None)
    if isinstance(name, str):
        return UTC if name == "UTC" else _named_zone(name)
    if isinstance(tz, tzinfo):
        return tz
    raise ScheduleError(f"tz: write a name such as 'Europe/Berlin' or a tzinfo, not {tz!r}")


def _named_zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        close = difflib.get_close_matches(name, available_timezones(), n=1)
        hint = f"did you mean {close[0]!r}?" if close else "write a name such as 'Europe/Berlin'"
        raise ScheduleError(f"unknown time zone {name!r}; {hint}") from None


def _wall(instant: datetime, zone: tzinfo) -> datetime:
    """What a clock in *zone* shows at *instant*, as a naive datetime."""
    return instant.astimezone(zone).replace(tzinfo=None)


def _offset(instant: datetime, zone: tzinfo) -> timedelta:
    return _wall(instant, zone) - instant.replace(tzinfo=None)


def _instant(wall: datetime, near: datetime, zone: tzinfo) -> datetime:
    """When a clock in *zone* shows *wall*, if the UTC offset stays as it is at *near*."""
    return (wall - _offset(near, zone)).replace(tzinfo=UTC)


def _next_change(zone: tzinfo, start: datetime, end: datetime) -> datetime | None:
    """The first instant in (start, end] with another UTC offset than *start*, if any; to the second."""
    before, offset = start, _offset(start, zone)
    while before < end:
        after = min(before + _PROBE, end)
        if _offset(after, zone) != offset:
            return _bisect(zone, before, after)
        before = after
    return None


def _bisect(zone: tzinfo, before: datetime, after: datetime) -> datetime:
    offset = _offset(before, zone)
    while after - before > _SECOND:
        middle = before + (after - before) // 2 // _SECOND * _SECOND
        if _offset(middle, zone) == offset:
            before = middle
        else:
            after = middle
    return after


def _latest_wall(zone: tzinfo, instant: datetime) -> datetime:
    """The latest time that a clock in *zone* has shown up to *instant*; it may have gone back since."""
    latest = _wall(instant, zone)
    start = instant - _LONGEST_FOLD
    while (change := _next_change(zone, start, instant)) is not None:
        latest = max(latest, _wall(change - _SECOND, zone))
        start = change
    return latest
