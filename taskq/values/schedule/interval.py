"""Intervals: ``every("15m")``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from taskq.errors import ConfigError, ScheduleError
from taskq.values.checks import shown
from taskq.values.durations import Duration, seconds
from taskq.values.schedule.base import EPOCH, SECOND, utc

SHORTEST_INTERVAL: Final = 0.1
"""Seconds. Work that is due more often is a loop, not a schedule."""
LONGEST_INTERVAL: Final = 36500 * 86400.0
"""Seconds."""


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
        count = (utc(after) - EPOCH) // self.interval
        try:
            return EPOCH + (count + 1) * self.interval
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
        raise ScheduleError(f"every: {shown(interval)} is out of range; write 0.1 seconds to 36500 days")
    return Every(timedelta(seconds=length))


def _short(interval: timedelta) -> str:
    """*interval* as :func:`every` reads it, in the largest unit that divides it."""
    for unit, length in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1))):
        if not interval % length:
            return f"{interval // length}{unit}"
    whole, part = divmod(interval, SECOND)
    return f"{whole}.{part.microseconds:06d}".rstrip("0").rstrip(".") + "s"
