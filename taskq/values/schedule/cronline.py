"""The text of a cron line: its fields, its aliases, and what croniter is given of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from taskq.errors import ScheduleError
from taskq.values.checks import shown

CronField: TypeAlias = int | str | Iterable[int | str]
"""One field of :func:`crontab`: a number, cron text such as ``"*/5"``, or several of these."""

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


class _Field(NamedTuple):
    """One field of a line, and what may stand in it."""

    name: str
    least: int
    most: int
    example: str
    names: dict[str, int] = {}  # noqa: RUF012
    special: str = r"(?!)"
    """What only croniter can read: days that depend on the month."""


_DAY_OF_MONTH = r"l|(?:[1-9]|[12][0-9]|3[01])w"
_DAY_OF_WEEK = rf"(?:[0-7]|{'|'.join(_DAYS)})#[1-5]|l[0-7]"
FIELDS = (
    _Field("second", 0, 59, "0-59"),
    _Field("minute", 0, 59, "0-59"),
    _Field("hour", 0, 23, "0-23"),
    _Field("day of month", 1, 31, "1-31, L or 15W", special=_DAY_OF_MONTH),
    _Field("month", 1, 12, "1-12 or jan-dec", {name: at for at, name in enumerate(_MONTHS, 1)}),
    _Field(
        "day of week",
        0,
        7,
        "0-7 (0 and 7 are Sunday), sun-sat, fri#2 or L5",
        {name: at for at, name in enumerate(_DAYS)},
        _DAY_OF_WEEK,
    ),
)
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
_PART = re.compile(r"(?:(\*)|([0-9]{1,2}|[a-z]{3})(?:-([0-9]{1,2}|[a-z]{3}))?)(?:/([0-9]{1,3}))?", re.ASCII)


def field_text(value: CronField, name: str) -> str:
    """One argument of :func:`crontab` as the field of a cron line."""
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        # sets have no order, and equal schedules must compare equal; by length first puts 9 before 10
        text = ",".join(sorted({field_text(item, name) for item in value}, key=lambda item: (len(item), item)))
    elif isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 100):
        text = "".join(str(value).split())
    else:
        raise ScheduleError(f"crontab {name}: write a number, text such as '*/5' or several, not {shown(value)}")
    if not text:
        raise ScheduleError(f"crontab {name} is empty; write '*' for any")
    field = next(field for field in FIELDS if name in (field.name.replace(" ", "_"), f"{field.name}_of_year"))
    return ",".join(_around(part, field) for part in _FULL_NAMES.sub(lambda name: name[0][:3], text).split(","))


def _around(part: str, field: _Field) -> str:
    """A range that runs over the end of its field, which Celery takes and cron does not, as two ranges."""
    match = _PART.fullmatch(part.lower())
    if match is None or match[3] is None:
        return part
    try:
        first, last = _number(match[2], field), _number(match[3], field)
    except ValueError:
        return part
    most = 6 if field.most == 7 else field.most
    if first <= last or last < field.least or first > most:
        return part
    length, step = most - field.least + 1, int(match[4] or 1) or 1
    span = range(first, last + length + 1, step)
    return ",".join(str((at - field.least) % length + field.least) for at in span)


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


def either_day(expression: str) -> bool:
    """Whether a match of one of the two day fields is enough, as Vixie cron and cronie decide it.

    Both must match where either starts with ``*``: ``0 0 */2 * 1`` is every Monday on an odd day.
    """
    return not any(field[0] in "*?" for field in (fields_of(expression)[-3], fields_of(expression)[-1]))


@lru_cache(maxsize=4096)
def croniter_line(expression: str) -> str:
    """The line as croniter wants it: seconds last, and numbers in place of ranges and steps, which it reads otherwise.

    Raises:
        ScheduleError: a field cannot be read; the text names it and says what to write.
    """
    fields = fields_of(expression)
    found = [_spelled_out(expression, field, text) for field, text in zip(FIELDS[-len(fields) :], fields, strict=True)]
    return " ".join([*found[1:], found[0]] if len(found) == 6 else found)


def _spelled_out(expression: str, field: _Field, text: str) -> str:
    """One field as a list of numbers, ``*``, or what croniter alone can read."""
    where = f"cron line {expression!r}: {field.name} {text!r}"
    if text == "*" or (text == "?" and field.name.startswith("day")):
        return "*"
    numbers: set[int] = set()
    special: list[str] = []
    for part in text.lower().split(","):
        if re.fullmatch(field.special, part, re.ASCII):
            special.append(part)
            continue
        try:
            numbers.update(_numbers(part, field))
        except _Unclear as error:
            raise ScheduleError(f"{where}: {error}") from None
        except ValueError:
            raise ScheduleError(f"{where} cannot be read; write {field.example}, or *") from None
    return ",".join([*(str(number) for number in sorted(numbers)), *special])


class _Unclear(ValueError):
    """Can be read, but not as it was meant; says what to write."""


def _numbers(part: str, field: _Field) -> Iterable[int]:
    """The numbers that a part of a field without commas means.

    Raises:
        ValueError: cannot be read.
    """
    match = _PART.fullmatch(part)
    if match is None:
        raise ValueError(part)
    star, low, high, steps = match.groups()
    first, last = (field.least, field.most) if star else (_number(low, field), _number(high or low, field))
    step = 1 if steps is None else int(steps)
    if not field.least <= first <= field.most or not field.least <= last <= field.most or step == 0:
        raise ValueError(part)
    if high in field.names and field.most == 7 and last == 0:
        last = 7  # sat-sun: the week ends with a Sunday as well as it begins with one
    if first > last:
        back = f"{first}-{field.most},{field.least}-{last}"
        raise _Unclear(f"the range {part!r} runs backwards; write {back if last else f'{first}-{field.most}'}")
    if steps and not star and high is None:
        raise _Unclear(f"a step needs a range; write {low}-{field.most}/{steps}")
    if star and step > field.most - field.least:
        raise _Unclear(
            f"a step of {step} is longer than {field.least}-{field.most}; "
            f"write {field.least} for once, or every(...) for an interval"
        )
    # 0 and 7 are the same day
    return (number % 7 if field.most == 7 else number for number in range(first, last + 1, step))


def _number(text: str, field: _Field) -> int:
    return field.names[text] if text in field.names else int(text)
