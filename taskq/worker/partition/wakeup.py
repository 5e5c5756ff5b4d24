"""Wakes the exchange loop, from any thread, with at most one wake-up under way."""

from __future__ import annotations

import asyncio
import contextlib


class Doorbell:
    """An event that threads may set for the cost of an attribute test while it is already ringing."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._ringing = False

    def ring(self) -> None:
        """Wake the loop; from any thread, as often as it likes."""
        if not self._ringing:
            self._ringing = True
            with contextlib.suppress(RuntimeError):  # a task in a thread has outlived its worker's loop
                self._loop.call_soon_threadsafe(self._hear)

    def wake(self) -> None:
        """Wake the loop; on its own thread."""
        self._event.set()

    async def wait(self) -> None:
        """Wait until woken."""
        await self._event.wait()
        self._event.clear()

    def _hear(self) -> None:
        # first cleared, then heard: what rings after this rings again
        self._ringing = False
        self._event.set()
