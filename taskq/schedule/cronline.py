"""The text of a cron line: its fields, its aliases, and what croniter makes of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

from taskq.checks import shown
from taskq.errors import ScheduleError

CronField: TypeAlias = int | str | Iterable[int | str]
"""One field of :func:`crontab`: a number, cron text such as ``"*/5"``, or several of these."""

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


def field_text(value: CronField, name: str) -> str:
    """One argument of :func:`crontab` as the field of a cron line."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        # sets have no order, and equal schedules must compare equal; by length first puts 9 before 10
        text = ",".join(sorted({field_text(item, name) for item in value}, key=lambda item: (len(item), item)))
    elif isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 100):
        text = "".join(str(value).split())
    else:
        raise ScheduleError(f"crontab {name}: write a number, text such as '*/5' or several, not {shown(value)}")
    if not text:
        raise ScheduleError(f"crontab {name} is empty; write '*' for any")
    return _FULL_NAMES.sub(lambda name: name[0][:3], text)


def fields_of(expression: str) -> list[str]:
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


def check_fields(expression: str) -> None:
    """Try each field by itself, so that the error can name the one that is wrong.

    Raises:
        ScheduleError: a field cannot be read.
    """
    from croniter import croniter

    fields = fields_of(expression)
    for position, (name, field) in enumerate(zip(list(_FIELDS)[-len(fields) :], fields, strict=True)):
        others = ["*"] * len(fields)
        others[position] = field
        try:
            # croniter replaces H and R by random numbers: each beat process would see another schedule
            if field[0] in "hHrR":
                raise ValueError(field)
            croniter.expand(croniter_line(" ".join(others)))
        except (ValueError, LookupError, TypeError, AttributeError):
            raise ScheduleError(
                f"cron line {expression!r}: {name} {field!r} cannot be read; write {_FIELDS[name]}, or *"
            ) from None


def croniter_line(expression: str) -> str:
    """The line as croniter wants it: seconds last, and no range of one value."""
    fields = fields_of(expression)
    if len(fields) == 6:
        fields = [*fields[1:], fields[0]]
    # croniter takes 5-5 for a full turn of the clock, cron for 5
    return " ".join(_RANGE_OF_ONE.sub(r"\1", field) for field in fields)
