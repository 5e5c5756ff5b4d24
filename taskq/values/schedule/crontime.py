"""Cron lines in the wall-clock time of a zone: ``cron("0 2 * * *", tz="Asia/Seoul")``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo

from taskq.errors import ScheduleError
from taskq.values.checks import shown
from taskq.values.schedule.base import SECOND, Schedule, utc
from taskq.values.schedule.cronline import CronField, croniter_line, either_day, field_text, fields_of
from taskq.values.schedule.zones import instant_of, latest_wall, next_change, wall_at, zone_of


@dataclass(frozen=True, slots=True, repr=False)
class Cron:
    """Fires when the wall clock of a zone matches a cron line. Made by :func:`cron` and :func:`crontab`.

    Raises:
        ScheduleError: the line cannot be read, or never fires.
    """

    expression: str
    zone: tzinfo | None = None
    """None: that of the app which has the schedule, its setting ``timezone``; by itself UTC."""
    both_days: bool = False
    """Whether day of month *and* day of week must match when both are given; cron asks for either."""

    def __post_init__(self) -> None:
        croniter_line(self.expression)
        # the calendar repeats within the 50 years that croniter searches, so any start will do
        if self._next_match(datetime(2000, 1, 1)) is None:
            raise ScheduleError(f"cron line {self.expression!r} never fires: no such date exists")

    @property
    def spec(self) -> str:
        both = " (both days)" if self.both_days else ""
        return f"cron {self.expression}{both} {self._clock!s}"

    def __repr__(self) -> str:
        tz = "" if self.zone is None else f", tz={str(self.zone)!r}"
        if not self.both_days:
            return f"cron({self.expression!r}{tz})"
        minute, hour, day, month, weekday = self.expression.split()
        days = f"day_of_week={weekday!r}, day_of_month={day!r}, month_of_year={month!r}"
        return f"crontab({minute!r}, {hour!r}, {days}{tz})"

    def next_after(self, after: datetime) -> datetime | None:
        """See :meth:`Schedule.next_after`."""
        start = utc(after).replace(microsecond=0)
        try:
            return self._next_beat(start) if self._is_rhythm() else self._next_ring(start)
        except OverflowError:  # the calendar ends with the year 9999
            return None

    @property
    def _clock(self) -> tzinfo:
        return UTC if self.zone is None else self.zone

    def _is_rhythm(self) -> bool:
        return fields_of(self.expression)[-4].startswith("*")

    def _next_beat(self, start: datetime) -> datetime | None:
        """The next instant whose wall-clock time matches, one stretch of constant UTC offset at a time."""
        wall = wall_at(start, self._clock)
        while (match := self._next_match(wall)) is not None:
            candidate = instant_of(match, start, self._clock)
            change = next_change(self._clock, start, candidate)
            if change is None:
                return candidate
            # the first reading after the change may match as well, and the search excludes its start
            start, wall = change, wall_at(change, self._clock) - SECOND
        return None

    def _next_ring(self, start: datetime) -> datetime | None:
        """The instant when the wall clock reaches or passes the first match that it has not yet reached."""
        match = self._next_match(latest_wall(self._clock, start))
        while match is not None:
            candidate = instant_of(match, start, self._clock)
            change = next_change(self._clock, start, candidate)
            if change is None:
                return candidate
            if wall_at(change, self._clock) >= match:
                return change
            start = change
        return None

    def _next_match(self, wall: datetime) -> datetime | None:
        """The first wall-clock time after *wall* that matches, if any; time zones play no part here."""
        from croniter import croniter

        either = not self.both_days and either_day(self.expression)
        try:
            search = croniter(croniter_line(self.expression), wall, day_or=either)
        except (ValueError, LookupError, TypeError, AttributeError):
            mixed = "days such as L, 15W and fri#2 do not go together with numbers"
            raise ScheduleError(f"cron line {self.expression!r} cannot be read: {mixed}") from None
        try:
            found: datetime = search.get_next(datetime)
        except (ValueError, OverflowError):  # nothing within 50 years, or past the year 9999
            return None
        return found


def cron(expression: str, tz: str | tzinfo | None = None) -> Cron:
    """A cron line: ``cron("0 2 * * *", tz="Asia/Seoul")``.

    Five fields: minute, hour, day of month, month, day of week (0 and 7 are Sunday). With six, the first is
    the second, as in Quartz, Spring and most other schedulers that have seconds.

    Understood are ``*``, ``*/5``, ``1-5``, ``1-30/2``, ``1,3``, names (``mon``, ``jan``), ``?`` for ``*`` in a day
    field, ``L`` (last day of the month), ``15W`` (weekday nearest to the 15th), ``fri#2`` (second Friday), ``L5``
    (last Friday) and the aliases ``@hourly``, ``@daily``, ``@midnight``, ``@weekly``, ``@monthly``, ``@yearly`` and
    ``@annually``. A step longer than its field (``*/90``), a step without a range (``5/15``) and a range that runs
    backwards (``5-1``) are errors.

    The two day fields go together as in Vixie cron and cronie: if both are restricted, a match of either is enough;
    but if one of them starts with ``*``, both must match: ``0 0 */2 * 1`` is every Monday on an odd day.

    Args:
        expression: the line.
        tz: a name such as ``"Europe/Berlin"``, or a ``tzinfo``; by default the app's setting ``timezone`` (UTC).
            The top of :mod:`taskq.values.schedule` says what happens when its clocks change.

    Raises:
        ScheduleError: the line cannot be read or never fires, or the zone is unknown.
    """
    if not isinstance(expression, str):
        raise ScheduleError(f"a cron line is text such as '0 2 * * *', not {shown(expression)}")
    return Cron(" ".join(expression.split()), None if tz is None else zone_of(tz))


def crontab(
    minute: CronField = "*",
    hour: CronField = "*",
    day_of_week: CronField = "*",
    day_of_month: CronField = "*",
    month_of_year: CronField = "*",
    *,
    tz: str | tzinfo | None = None,
) -> Cron:
    """Celery's ``crontab``: the fields of a cron line by name, e.g. ``crontab(minute=0, hour="*/3")``.

    As in Celery, and unlike :func:`cron`, a day must match both ``day_of_week`` and ``day_of_month``, a range may run
    over the end of the week or the year (``fri-mon``), and the day of the week is the third argument. Better write the
    last three by name: a cron line has them in another order.

    Args:
        minute, hour, day_of_week, day_of_month, month_of_year: a number, cron text, or several of these.
        tz: as for :func:`cron`.

    Raises:
        ScheduleError: a field cannot be read, the schedule never fires, or the zone is unknown.
    """
    fields = [
        field_text(minute, "minute"),
        field_text(hour, "hour"),
        field_text(day_of_month, "day_of_month"),
        field_text(month_of_year, "month_of_year"),
        field_text(day_of_week, "day_of_week"),
    ]
    both_days = fields[2] != "*" and fields[4] != "*"
    return Cron(" ".join(fields), None if tz is None else zone_of(tz), both_days)


def in_zone(schedule: Schedule, zone: tzinfo) -> Schedule:
    """*schedule*, in *zone* if it is a cron line that names none."""
    return replace(schedule, zone=zone) if isinstance(schedule, Cron) and schedule.zone is None else schedule
