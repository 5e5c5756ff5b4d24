"""A recurring definition as the app's code writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from typing import Any

from taskq.errors import ConfigError, ScheduleError, suggestion
from taskq.values.checks import named, positional, shown
from taskq.values.durations import Duration, seconds
from taskq.values.message import MAX_ID_LENGTH
from taskq.values.schedule import Schedule, cron, every
from taskq.values.schedule.base import utc
from taskq.values.schedule.bounds import Bounded
from taskq.values.schedule.crontime import in_zone
from taskq.values.schedule.interval import LONGEST_INTERVAL

CATCH_UP = ("none", "last", "all")
OVERLAP = ("allow", "skip", "queue", "cancel")
MAX_CATCH_UP = 1000
MAX_HELD = 1000
MAX_JITTER = LONGEST_INTERVAL
"""Seconds."""
_LONGEST_NAME = MAX_ID_LENGTH - 40
"""The fire time, or the time of a run by hand, must fit into the task id too."""


@dataclass(frozen=True, slots=True)
class PeriodicEntry:
    """A recurring definition: which task, when, with what.

    Raises:
        ScheduleError: a part of it cannot be used.
    """

    name: str
    task: str
    schedule: Schedule
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    """As for ``task.options(...)``."""
    catch_up: str = "last"
    """Which fire times missed while no beat ran are made up for: ``none``, ``last`` or ``all``."""
    max_catch_up: int = MAX_CATCH_UP
    """Most fire times that ``catch_up="all"`` makes up for: the latest ones. 1 to 1000."""
    overlap: str = "allow"
    """What happens at a fire time when the schedule's last message has not ended: ``allow`` sends another, ``skip``
    sends none, ``queue`` holds it back until the last has ended, ``cancel`` revokes the last."""
    max_held: int = 1
    """Most messages that ``overlap="queue"`` holds back; further fire times are skipped. 1 to 1000."""
    jitter: Duration = 0.0
    """Each fire is later by up to this; how much depends on its fire time alone, so that all beats agree."""
    start: datetime | None = None
    """No fire time before; timezone-aware."""
    end: datetime | None = None
    """No fire time after; timezone-aware."""
    source: str = "code"
    """Where it is defined: ``code``, ``config`` or ``runtime``."""

    def __post_init__(self) -> None:
        where = f"schedule {shown(self.name)}"
        if not isinstance(self.name, str) or not 0 < len(self.name) <= _LONGEST_NAME or not self.name.isprintable():
            raise ScheduleError(f"{where}: a name has 1 to {_LONGEST_NAME} printable characters")
        if not callable(getattr(self.schedule, "next_after", None)):
            raise ScheduleError(f"{where}: write cron('...'), every(...) or at(...)")
        try:
            object.__setattr__(self, "args", positional(self.args))
            object.__setattr__(self, "kwargs", named(self.kwargs))
            object.__setattr__(self, "options", named(self.options, "options"))
        except ConfigError as error:
            raise ScheduleError(f"{where}: {error}") from None
        _check_choice(where, "catch_up", self.catch_up, CATCH_UP)
        _check_choice(where, "overlap", self.overlap, OVERLAP)
        _check_count(where, "max_catch_up", self.max_catch_up, MAX_CATCH_UP)
        _check_count(where, "max_held", self.max_held, MAX_HELD)
        if not isinstance(self.task, str) or not self.task.strip():
            raise ScheduleError(f"{where}: task must be a task's name, such as 'shop.clean_up', not {shown(self.task)}")
        try:
            jitter = seconds(self.jitter, "jitter")
        except ConfigError as error:
            raise ScheduleError(f"{where}: {error}") from None
        if jitter > MAX_JITTER:
            raise ScheduleError(f"{where}: jitter: {shown(self.jitter)} is out of range; write 0 to 36500 days")
        for what, bound in (("start", self.start), ("end", self.end)):
            if bound is not None and (not isinstance(bound, datetime) or bound.utcoffset() is None):
                raise ScheduleError(f"{where}: {what} must be a timezone-aware datetime, not {shown(bound)}")
            if bound is not None:
                utc(bound)
        if self.start is not None and self.end is not None and self.start > self.end:
            raise ScheduleError(f"{where}: it ends before it starts")

    def in_zone(self, zone: tzinfo) -> PeriodicEntry:
        """This entry, in *zone* if its schedule is a cron line that names none."""
        schedule = in_zone(self.schedule, zone)
        return self if schedule is self.schedule else replace(self, schedule=schedule)

    @property
    def bounded(self) -> Schedule:
        """The schedule within ``start`` and ``end``."""
        if self.start is None and self.end is None:
            return self.schedule
        return Bounded(self.schedule, self.start, self.end)


_CONFIGURED = (
    "task",
    "schedule",
    "args",
    "kwargs",
    "options",
    "catch_up",
    "max_catch_up",
    "overlap",
    "max_held",
    "jitter",
    "start",
    "end",
)


def configured_entry(name: str, definition: Mapping[str, Any]) -> PeriodicEntry:
    """An item of the setting ``beat_schedule``; its schedule may be a cron line as text, or an interval.

    Raises:
        ScheduleError: a key is missing or unknown, or its value cannot be used.
    """
    for key in definition:
        if key not in _CONFIGURED:
            raise ScheduleError(f"beat_schedule {name!r}: unknown key {key!r}; {suggestion(key, _CONFIGURED)}")
    if "task" not in definition or "schedule" not in definition:
        raise ScheduleError(f"beat_schedule {name!r} needs 'task' and 'schedule'")
    given = dict(definition)
    schedule = given.pop("schedule")
    if isinstance(schedule, str):
        schedule = cron(schedule)
    elif not hasattr(schedule, "next_after"):
        schedule = every(schedule)
    return PeriodicEntry(name=name, schedule=schedule, source="config", **given)


def _check_choice(where: str, what: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ScheduleError(f"{where}: {what} must be one of {', '.join(choices)}, not {shown(value)}")


def _check_count(where: str, what: str, value: object, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ScheduleError(f"{where}: {what} must be a whole number from 1 to {most}, not {shown(value)}")
