"""What every schedule is, and the fire times of one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol, runtime_checkable

from taskq.errors import ScheduleError
from taskq.values.checks import shown

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


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
    until = utc(until)
    found: list[datetime] = []
    due = schedule.next_after(after)
    while due is not None and due <= until and len(found) < limit:
        found.append(due)
        due = schedule.next_after(due)
    return found


def utc(instant: object) -> datetime:
    """*instant* in UTC.

    Raises:
        ScheduleError: no datetime, one without a time zone, or one that UTC's calendar does not have.
    """
    if not isinstance(instant, datetime):
        raise ScheduleError(f"{shown(instant)} is not a datetime")
    if instant.utcoffset() is None:
        raise ScheduleError(f"{instant!r} has no time zone; write datetime(..., tzinfo=UTC)")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ScheduleError(f"{instant.isoformat()} is out of range: in UTC it is not in the years 1 to 9999") from None
