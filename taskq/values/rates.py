"""The rate limit of a task: at most so many starts in any window of time, over all workers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from taskq.errors import ConfigError
from taskq.values.checks import shown
from taskq.values.durations import seconds

_TEXT = re.compile(r"\s*(\d{1,9})\s*/\s*(\d{1,9}(?:\.\d{1,9})?)?\s*(ms|s|m|h|d)\s*\Z")
MAX_COUNT = 1_000_000
SHORTEST, LONGEST = 0.01, 7 * 86400.0
"""Windows in seconds. Shorter ones say more about the network than about the work."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most *count* starts in any *window_ms*."""

    count: int
    window_ms: int

    def __str__(self) -> str:
        return f"{self.count}/{self.window_ms / 1000:g}s"

    @classmethod
    def parse(cls, value: object, what: str) -> RateLimit:
        """The limit in *value*, such as ``"100/s"``, ``"10/2s"``, ``"5000/h"``.

        Raises:
            ConfigError: not a rate, or one that cannot be kept; *what* names it in the text.
        """
        match = _TEXT.match(value) if isinstance(value, str) else None
        if match is None:
            raise ConfigError(f"{what}: {shown(value)} is not a rate; write '100/s', '10/2s', '600/m' or '5000/h'")
        count, window = int(match[1]), seconds(f"{match[2] or 1}{match[3]}", what)
        if not 1 <= count <= MAX_COUNT:
            raise ConfigError(f"{what}: {shown(value)} must allow 1 to {MAX_COUNT:,} starts in its window")
        if not SHORTEST <= window <= LONGEST:
            raise ConfigError(f"{what}: the window of {shown(value)} must be from 10 ms to 7 days")
        return cls(count, round(window * 1000))
