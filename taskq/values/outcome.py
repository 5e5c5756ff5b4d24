"""What came out of a message, as it is stored: a state letter, then a packed array.

The letter lets a Lua script tell a final outcome from a waiting retry without unpacking anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taskq.errors import TaskExpiredError, TaskFailedError, TaskRevokedError, TaskSkippedError
from taskq.values import serialization
from taskq.values.message import TaskState

_LETTERS = {
    TaskState.SUCCESS: b"S",
    TaskState.FAILURE: b"F",
    TaskState.RETRY: b"R",
    TaskState.REVOKED: b"V",
    TaskState.EXPIRED: b"X",
    TaskState.SKIPPED: b"K",
}
_STATES = {letter: state for state, letter in _LETTERS.items()}


@dataclass(frozen=True, slots=True)
class Ending:
    """A stored outcome. *value* counts for SUCCESS, the error fields for everything else."""

    state: TaskState
    value: Any = None
    error_type: str = ""
    error: str = ""
    traceback: str = ""
    attempt: int = 0

    def exception(self, task_id: str) -> TaskFailedError:
        """The error that ``get()`` raises for an outcome that is not a success."""
        kinds = {
            TaskState.REVOKED: TaskRevokedError,
            TaskState.EXPIRED: TaskExpiredError,
            TaskState.SKIPPED: TaskSkippedError,
        }
        kind = kinds.get(self.state, TaskFailedError)
        text = f"{self.error_type}: {self.error}" if self.error_type else self.error or self.state.value
        return kind(text, task_id=task_id, error_type=self.error_type, traceback=self.traceback)


def pack_success(value: Any, attempt: int, what: str) -> bytes:
    """The stored form of a success.

    Raises:
        SerializationError: the value has no wire form; *what* names it in the text.
    """
    return b"S" + serialization.dumps((value, attempt), what)


def pack_error(state: TaskState, error_type: str, error: str, traceback: str, attempt: int) -> bytes:
    """The stored form of anything but a success."""
    return _LETTERS[state] + serialization.dumps((error_type, error, traceback, attempt))


def unpack(data: bytes) -> Ending:
    """The outcome in *data*; a lone letter is an outcome whose body was dropped for want of memory.

    Raises:
        DecodeError: the bytes are no outcome.
    """
    state = _STATES.get(data[:1], TaskState.UNKNOWN)
    if len(data) <= 1:
        return Ending(state, error="the details were dropped: Redis had no memory left")
    body = serialization.loads(data[1:])
    if state is TaskState.SUCCESS:
        return Ending(state, value=body[0], attempt=body[1])
    return Ending(state, None, *body[:4])
