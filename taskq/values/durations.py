"""Durations at the edge: seconds, a ``timedelta``, or text such as ``"90s"``, ``"5m"`` or ``"1d"``."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from taskq.errors import ConfigError
from taskq.values.checks import shown

Duration: TypeAlias = float | timedelta | str
LONGEST = 36500 * 86400.0
"""Seconds: what ends later ends never, and calendars end with the year 9999."""

LATEST_MS = 253_402_300_799_999
"""Epoch milliseconds of the last instant of the year 9999: later ones have no date."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)?\s*\Z")


def seconds(value: Duration, what: str = "duration") -> float:
    """Return *value* in seconds.

    Args:
        value: seconds, a ``timedelta``, or a number with one unit of ms, s, m, h, d, w.
        what: the name of the setting, for the error text.

    Raises:
        ConfigError: not a duration, negative, or longer than 36500 days.
    """
    if isinstance(value, timedelta):
        result = value.total_seconds()
    elif isinstance(value, str):
        match = _TEXT.match(value)
        if not match:
            raise ConfigError(f"{what}: {shown(value)} is not a duration; write seconds or '90s', '5m', '1h', '7d'")
        result = float(match[1]) * _UNITS[match[2] or "s"]
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        result = _as_float(value)
    else:
        raise ConfigError(f"{what}: {shown(value)} is not a duration; write seconds, a timedelta or '5m'")
    if not 0 <= result <= LONGEST:  # no number is within these bounds where it is not one
        raise ConfigError(f"{what}: {shown(value)} is out of range; write 0 to 36500 days")
    return result


def _as_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # an int beyond what a float can hold
        return math.inf


def moment(epoch_ms: float) -> datetime:
    """The time of *epoch_ms*, which comes from Redis: what no date can say becomes the first or the last one."""
    if not epoch_ms > 0:  # also what is not a number
        return datetime.fromtimestamp(0, UTC)
    return datetime.fromtimestamp(min(epoch_ms, LATEST_MS) / 1000, UTC)


def milliseconds(value: Duration, what: str = "duration") -> int:
    """Return *value* in whole milliseconds; what is above zero never becomes zero."""
    exact = seconds(value, what) * 1000
    return max(1, round(exact)) if exact > 0 else 0
