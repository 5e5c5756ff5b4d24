"""Single instants: ``at(datetime)``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from taskq.values.schedule.base import utc


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
        return self.when if self.when > utc(after) else None


def at(when: datetime) -> At:
    """Once, at *when*.

    Raises:
        ScheduleError: *when* is not a datetime, or has no time zone.
    """
    return At(utc(when))
