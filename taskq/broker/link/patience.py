"""How long to wait for Redis: as long as something moves. A timeout means silence, never size."""

from __future__ import annotations

import contextlib
import socket

try:
    import fcntl
    import termios
except ImportError:  # not on every platform; then only what was read counts as movement
    _QUESTION = 0
else:
    _QUESTION = termios.TIOCOUTQ

SMALL = 65_536
"""Bytes of a request that one write hands over."""
_SLOWEST = 250_000
"""Bytes a second of a request that the network still carries after our side has sent it all."""
_IN_TRANSIT = 8_000_000
"""Bytes that proxies and kernels between us and Redis may hold at most."""
_TRICKLE = 10_000
"""Bytes a second below which movement does not count: else one byte now and then would hold a caller for ever."""
_LONGEST = 3
"""Silences that an exchange may take in all, before its bytes are weighed against :data:`_TRICKLE`."""


def unsent(sock: socket.socket | None) -> int:
    """Bytes that the other side has not acknowledged; 0 where that is not known."""
    if sock is not None and _QUESTION:
        with contextlib.suppress(OSError, ValueError):
            return int.from_bytes(fcntl.ioctl(sock.fileno(), _QUESTION, bytes(4)), "little")
    return 0


class Patience:
    """Says how much longer one exchange may wait.

    Args:
        silence: seconds without movement after which it ends.
        size: bytes of the request.
        now: ``time.monotonic()``.
        moved: bytes that have moved on the connection so far, in both directions. Too high a number hides movement.
    """

    __slots__ = ("_began", "_first", "_moved", "_moved_at", "_size", "silence")

    def __init__(self, silence: float, size: int, now: float, moved: int) -> None:
        self.silence = silence
        self._size = size
        self._began = self._moved_at = now
        self._first = self._moved = moved

    def left(self, now: float, moved: int, waiting: int) -> float:
        """Seconds until the next look; 0 or less: give up.

        Args:
            now: ``time.monotonic()``.
            moved: as for the constructor.
            waiting: bytes of requests that are not acknowledged.
        """
        if moved > self._moved:
            self._moved, self._moved_at = moved, now
        silence = self.silence
        if not waiting:  # somebody lives who took it; it may have a slow link of its own to Redis
            silence += min(self._size, _IN_TRANSIT) / _SLOWEST
        enough = self._began + _LONGEST * silence + max(moved - self._first, 0) / _TRICKLE
        return min(self._moved_at + silence, enough) - now
