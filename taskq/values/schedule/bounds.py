"""A schedule between two dates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from taskq.values.schedule.base import Schedule, utc

_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Bounded:
    """The fire times of another schedule from *start* to *end*, both included; None: no bound."""

    schedule: Schedule
    start: datetime | None = None
    end: datetime | None = None

    @property
    def spec(self) -> str:
        bounds = ((" from ", self.start), (" until ", self.end))
        return self.schedule.spec + "".join(f"{word}{when.isoformat()}" for word, when in bounds if when)

    def next_after(self, after: datetime) -> datetime | None:
        """See :meth:`Schedule.next_after`."""
        after = utc(after)
        if self.start is not None:
            start = utc(self.start)
            after = after if after >= start else start - _INSTANT
        due = self.schedule.next_after(after)
        return None if due is None or (self.end is not None and due > self.end) else due
