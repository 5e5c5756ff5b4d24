"""What a check has found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum


class Severity(IntEnum):
    """How bad it is."""

    NOTE = 0
    """Worth knowing; nothing is wrong."""
    WARNING = 1
    """Something is late, stuck or grows, or could not be looked at."""
    ERROR = 2
    """Tasks can be lost, or do not run."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    check: str
    """Which check: ``server.eviction``."""
    severity: Severity
    reason: str
    """What is the case, and what comes of it."""
    remedy: str
    """What to do."""
    fix: Callable[[], object] | None = field(default=None, compare=False)
    """Does what is safe at any time; None: that is for a person to decide."""


def note(check: str, reason: str, remedy: str) -> Finding:
    """A finding that is worth knowing."""
    return Finding(check, Severity.NOTE, reason, remedy)


def warning(check: str, reason: str, remedy: str, fix: Callable[[], object] | None = None) -> Finding:
    """A finding that should be looked at."""
    return Finding(check, Severity.WARNING, reason, remedy, fix)


def error(check: str, reason: str, remedy: str) -> Finding:
    """A finding by which tasks can be lost or do not run."""
    return Finding(check, Severity.ERROR, reason, remedy)
