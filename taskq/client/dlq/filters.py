"""Which dead letters are meant."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, TypedDict

from taskq.client.dlq.letter import OTHER, DeadLetter
from taskq.errors import ConfigError, UnknownOptionError
from taskq.values.checks import shown
from taskq.values.topics import check_instant

_KINDS = {str: "text", datetime: "a timezone-aware datetime"}


class Where(TypedDict, total=False):
    """What dead letters are chosen by; all of it must fit."""

    task: str
    """The task's name."""
    error: str
    """The type of the error, such as ``ValueError``."""
    since: datetime
    """Not older than this in the dead letter queue; timezone-aware."""
    until: datetime
    """Not younger than this; timezone-aware."""
    text: str
    """Somewhere in the arguments or the error text, upper or lower case."""
    fingerprint: str
    """Of this group."""


@dataclass(frozen=True, slots=True)
class Filter:
    """The checked form of :class:`Where`; None lets everything through."""

    task: str | None = None
    error: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    fingerprint: str | None = None

    @classmethod
    def build(cls, where: Where) -> Filter:
        """Check *where*.

        Raises:
            UnknownOptionError: something that dead letters are not chosen by.
            ConfigError: a value of the wrong kind, or a time without zone.
        """
        for name, value in where.items():
            if name not in Where.__annotations__:
                raise UnknownOptionError(name, Where.__annotations__, "a choice of dead letters")
            wanted = datetime if name in ("since", "until") else str
            if value is not None and not isinstance(value, wanted):
                raise ConfigError(f"{name} must be {_KINDS[wanted]}, not {shown(value)}")
            if isinstance(value, datetime):
                check_instant(value, name)
        return cls(**where)

    @property
    def looks_inside(self) -> bool:
        """Whether letters must be read to know which are meant; else the time alone decides."""
        return any(value is not None for value in (self.task, self.error, self.text, self.fingerprint))

    @property
    def bounds(self) -> tuple[bytes, bytes]:
        """The first and the last entry id that can be meant, as XRANGE takes them."""
        first = b"-" if self.since is None else b"%d" % max(_ms(self.since), 0)
        last = b"+" if self.until is None else b"%d" % max(_ms(self.until), 0)
        return first, last

    def matches(self, letter: DeadLetter) -> bool:
        """Whether *letter*, which lies within :attr:`bounds`, is meant."""
        return (
            (self.fingerprint is None or _of_kind(letter, self.fingerprint))
            and (self.task is None or letter.task == self.task)
            and (self.error is None or letter.evidence.error_type == self.error)
            and (self.text is None or _contains(letter, self.text.lower()))
        )

    def __str__(self) -> str:
        given: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        parts = [
            f"{name}={value.isoformat() if isinstance(value, datetime) else value}"
            for name, value in given.items()
            if value is not None
        ]
        return ", ".join(parts) or "all"


def _of_kind(letter: DeadLetter, fingerprint: str) -> bool:
    if letter.group == fingerprint:
        return True
    # a letter in a group of its own kind has that group's fingerprint: no need to work it out
    return letter.group in ("", OTHER) and letter.fingerprint == fingerprint


def _contains(letter: DeadLetter, text: str) -> bool:
    if text in letter.evidence.error.lower():
        return True
    message = letter.message
    return message is not None and text in f"{message.args} {message.kwargs}".lower()


def _ms(when: datetime) -> int:
    return round(when.timestamp() * 1000)
