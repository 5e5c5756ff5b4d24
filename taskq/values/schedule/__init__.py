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

from taskq.values.schedule.base import Schedule, fire_times
from taskq.values.schedule.cronline import CronField
from taskq.values.schedule.crontime import Cron, cron, crontab
from taskq.values.schedule.instant import At, at
from taskq.values.schedule.interval import LONGEST_INTERVAL, SHORTEST_INTERVAL, Every, every

__all__ = [
    "LONGEST_INTERVAL",
    "SHORTEST_INTERVAL",
    "At",
    "Cron",
    "CronField",
    "Every",
    "Schedule",
    "at",
    "cron",
    "crontab",
    "every",
    "fire_times",
]
