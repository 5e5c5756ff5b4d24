"""An independent reference for cron lines: it reads a line by itself, and walks through real time minute by minute."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo

MINUTE = timedelta(minutes=1)


def numbers(field: str, least: int, most: int) -> set[int]:
    """What a field of digits, ``*``, ``,``, ``-`` and ``/`` means."""
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        first, last = (least, most) if span == "*" else (int(low), int(high or low))
        found.update(range(first, last + 1, int(step or 1)))
    return found


class Reference:
    """One cron line."""

    def __init__(self, line: str) -> None:
        minute, hour, day, month, weekday = line.split()
        self.minutes, self.hours = numbers(minute, 0, 59), numbers(hour, 0, 23)
        self.days, self.months = numbers(day, 1, 31), numbers(month, 1, 12)
        self.weekdays = {number % 7 for number in numbers(weekday, 0, 7)}
        self.either = not day.startswith("*") and not weekday.startswith("*")
        self.rhythm = hour.startswith("*")

    def matches(self, wall: datetime) -> bool:
        if wall.minute not in self.minutes or wall.hour not in self.hours or wall.month not in self.months:
            return False
        day, weekday = wall.day in self.days, wall.isoweekday() % 7 in self.weekdays
        return day or weekday if self.either else day and weekday

    def fire_times(self, zone: tzinfo, after: datetime, until: datetime) -> Iterator[datetime]:
        """The fire times after *after*, up to *until*."""
        # two days earlier, to know what the clock had already shown before it went back
        return (instant for instant in self.walk(Walk(zone, after - timedelta(days=2), until)) if instant > after)

    def walk(self, walk: Walk) -> Iterator[datetime]:
        """The fire times in a walk, but for those that need to know what the clock showed before it."""
        shown = walk.walls[0]
        for instant, wall in zip(walk.instants[1:], walk.walls[1:], strict=True):
            if self.matches(wall) if self.rhythm else self.reached(shown, wall):
                yield instant
            shown = max(shown, wall)

    def reached(self, shown: datetime, wall: datetime) -> bool:
        """Whether a match lies after *shown* and not after *wall*."""
        while shown < wall:
            shown += MINUTE
            if self.matches(shown):
                return True
        return False


class Walk:
    """Every minute of real time from *begin* to *end*, and what a clock in *zone* shows then."""

    def __init__(self, zone: tzinfo, begin: datetime, end: datetime) -> None:
        count = (end - begin) // MINUTE
        self.instants = [begin + n * MINUTE for n in range(count + 1)]
        self.walls = [instant.astimezone(zone).replace(tzinfo=None) for instant in self.instants]


def first_after(times: list[datetime], after: datetime) -> datetime | None:
    """The first of the sorted *times* after *after*."""
    place = bisect_right(times, after)
    return times[place] if place < len(times) else None
