"""How often passwords may be tried: by address, and by all who are not known; the counters are bounded."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

PER_ADDRESS = 10
"""Wrong passwords from one address within :data:`WINDOW` seconds, after which it has to wait."""
PER_DASHBOARD = 30
"""Wrong passwords from all addresses together, after which only those wait from where nobody has signed in yet."""
WINDOW = 60.0
MOST = 1000
"""Addresses, and browsers, that are remembered."""
KNOWN_FOR = 12 * 3600.0
"""Seconds for which an address counts as known after a right password."""

_ALL = "all"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One password that may be tried; it counts as wrong until :meth:`Attempts.succeeded`."""

    address: str
    counters: tuple[str, ...]
    at: float


class Attempts:
    """Counts wrong passwords of one dashboard.

    Guessing from many addresses must not go on without end, and must not lock out those who know the password. So a
    browser that has signed in before is counted by itself, whatever others do from its address, and an address from
    which the right password came is not held by the limit of all together.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()
        self._known: OrderedDict[str, float] = OrderedDict()

    def begin(self, address: str, browser: str = "") -> Attempt | None:
        """Count one attempt before the password is looked at; None: too many were wrong lately, do not look.

        Args:
            address: where it comes from.
            browser: what a browser that signed in before is known by; empty for others.
        """
        now = time.monotonic()
        with self._lock:
            counters: tuple[str, ...]
            if browser and self._has_room(f"browser {browser}", PER_ADDRESS, now):
                counters = (f"browser {browser}",)
            elif self._has_room(f"from {address}", PER_ADDRESS, now) and (
                self._knows(address, now) or self._has_room(_ALL, PER_DASHBOARD, now)
            ):
                counters = (f"from {address}", _ALL)
            else:
                return None  # not counted: or whoever goes on would keep the door closed for ever
            for name in counters:
                self._wrong.setdefault(name, []).append(now)
                self._wrong.move_to_end(name)
            while len(self._wrong) > MOST:
                self._wrong.popitem(last=False)
            return Attempt(address, counters, now)

    def succeeded(self, attempt: Attempt) -> None:
        """It was the right password."""
        with self._lock:
            for name in attempt.counters:
                moments = self._wrong.get(name, [])
                if attempt.at in moments:
                    moments.remove(attempt.at)
                if not moments:
                    self._wrong.pop(name, None)
            self._known[attempt.address] = time.monotonic()
            self._known.move_to_end(attempt.address)
            while len(self._known) > MOST:
                self._known.popitem(last=False)

    def _has_room(self, name: str, most: int, now: float) -> bool:
        recent = [moment for moment in self._wrong.get(name, ()) if moment > now - WINDOW]
        if recent:
            self._wrong[name] = recent
        else:
            self._wrong.pop(name, None)
        return len(recent) < most

    def _knows(self, address: str, now: float) -> bool:
        return self._known.get(address, -KNOWN_FOR) > now - KNOWN_FOR
