"""The only ways in which a test waits: poll a condition, with a deadline."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import pytest

T = TypeVar("T")
Message = str | Callable[[], object]

_INTERVAL_SECONDS = 0.01


class HasOutput(Protocol):
    """A process whose output grows; :class:`support.process.Proc` is one."""

    def output(self) -> str: ...

    def running(self) -> bool: ...


def eventually(predicate: Callable[[], T], timeout: float = 30, message: Message = "") -> T:
    """Call *predicate* until it returns something true, and return that.

    An ``AssertionError`` of the predicate means "not yet"; the last one is shown if time runs out.

    Args:
        timeout: seconds.
        message: what was waited for, or a function that describes the state found at the end.
    """
    __tracebackhide__ = True
    deadline = time.monotonic() + timeout
    while True:
        expired = time.monotonic() > deadline
        value, error = _attempt(predicate)
        if value:
            return value
        if expired:
            _give_up(timeout, message, error or f"last value: {value!r}")
        time.sleep(_INTERVAL_SECONDS)


def wait_for_line(process: HasOutput, pattern: str, timeout: float = 30) -> re.Match[str]:
    """Wait until a line of the output contains a match of *pattern*; fails early if the process ended."""
    __tracebackhide__ = True
    deadline = time.monotonic() + timeout
    while True:
        # Looked at before the output is read: what a process wrote before its end is then in the output.
        over = not process.running() or time.monotonic() > deadline
        if match := re.search(pattern, process.output(), re.MULTILINE):
            return match
        if over:
            state = f"within {timeout:g} s" if process.running() else "before the process ended"
            pytest.fail(f"no line matched {pattern!r} {state}; the output was:\n{process.output()}")
        time.sleep(_INTERVAL_SECONDS)


def _attempt(predicate: Callable[[], T]) -> tuple[T | None, str]:
    try:
        return predicate(), ""
    except AssertionError as error:
        return None, str(error) or "an assertion without a message failed"


def _give_up(timeout: float, message: Message, state: str) -> None:
    __tracebackhide__ = True
    text = message() if callable(message) else message or "the condition did not become true"
    pytest.fail(f"after {timeout:g} s: {text} ({state})")
