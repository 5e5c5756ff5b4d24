"""How fast a replay goes."""

from __future__ import annotations

import re
import time

from taskq.errors import ConfigError
from taskq.values.checks import shown

_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:/\s*(s|m|h|d))?\s*\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
SLOWEST, FASTEST = 0.99 / 86400, 1_000_000.0
"""A second; the slowest is one a day, as a float has it."""
_SLICE = 0.1
"""Seconds of a rate that may go at once."""


def per_second(rate: float | str) -> float:
    """A rate as a number a second: ``100``, ``"100/s"``, ``"30/m"``.

    Raises:
        ConfigError: not a rate, or out of range.
    """
    if isinstance(rate, str) and (match := _RATE.match(rate)):
        value = float(match[1]) / _SECONDS[match[2] or "s"]
    elif isinstance(rate, (int, float)) and not isinstance(rate, bool):
        value = float(min(rate, 2 * FASTEST))  # an int may be beyond what a float can hold
    else:
        raise ConfigError(f"rate: {shown(rate)} is not a rate; write '100/s', '30/m' or '5/h'")
    if not SLOWEST <= value <= FASTEST:
        raise ConfigError(f"rate: {shown(rate)} is out of range; write one from 1/d to 1000000/s")
    return value


class Pace:
    """Lets pages through at a rate; None at once.

    Args:
        rate: as :func:`per_second` takes it.
        most: most in one page.

    Raises:
        ConfigError: *rate* cannot be used.
    """

    def __init__(self, rate: float | str | None, most: int) -> None:
        self._rate = None if rate is None else per_second(rate)
        self.page = most if self._rate is None else max(1, min(most, int(self._rate * _SLICE)))
        """How many may go at once."""
        self._next = 0.0

    def wait(self, count: int) -> None:
        """Wait until *count* more may go."""
        if self._rate is None:
            return
        now = time.monotonic()
        if self._next > now:
            time.sleep(self._next - now)
        self._next = max(self._next, now) + count / self._rate
