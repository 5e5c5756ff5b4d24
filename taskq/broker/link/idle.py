"""Connections of ordinary code that wait for the next caller; those that nobody has needed for long are closed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

KEPT_FOR = 60.0
"""Seconds that a connection waits for its next caller, before it is closed."""


class Closeable(Protocol):
    """What :class:`Idle` keeps."""

    idle_since: float

    def close(self) -> None:
        """Close the socket."""
        ...


C = TypeVar("C", bound=Closeable)


class Idle(Generic[C]):
    """A stack: few callers use few connections, and the rest grows old at its bottom.

    It has no thread: the old ones are closed when another is given back. So the last one used stays open.
    May be used from many threads.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._stack: deque[C] = deque()
        self._clock = clock

    def __len__(self) -> int:
        return len(self._stack)

    def take(self) -> C | None:
        """The one that was used last; None when there is none."""
        try:
            return self._stack.pop()
        except IndexError:
            return None

    def give(self, connection: C) -> None:
        """Keep *connection* for the next caller, and close what nobody has needed for :data:`KEPT_FOR`."""
        stack = self._stack
        now = connection.idle_since = self._clock()
        stack.append(connection)
        try:
            oldest = stack[0]
        except IndexError:  # another thread has taken it already
            return
        if now - oldest.idle_since > KEPT_FOR:
            self._close_unused(now)

    def _close_unused(self, now: float) -> None:
        while (oldest := self._oldest()) is not None:
            if now - oldest.idle_since <= KEPT_FOR:
                self._stack.appendleft(oldest)
                return
            oldest.close()

    def _oldest(self) -> C | None:
        try:
            return self._stack.popleft()
        except IndexError:
            return None

    def close(self) -> None:
        """Close all of them."""
        while (connection := self.take()) is not None:
            connection.close()
