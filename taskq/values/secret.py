"""``Secret``: an argument that the task sees and nobody else is shown."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")

MASK = "***"
"""What is shown instead."""


class Secret(Generic[T]):
    """A value for a task that is never shown: ``charge.delay(42, Secret(token))``, and ``token.reveal()`` in the task.

    Its ``str()`` and ``repr()`` are ``***``, so it is ``***`` in logs, error reports, traces, the dashboard and the
    command line. It is not encryption: whoever can read Redis, or an export of dead letters, can read the value.
    What :meth:`reveal` returns is an ordinary value again, and is shown wherever the task puts it.

    Args:
        value: what an argument may be.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """The value itself."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        try:
            return hash((Secret, self._value))
        except TypeError:  # a list, say: what was sent as a key of a mapping must be read again
            return hash(Secret)
