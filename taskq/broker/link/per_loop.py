"""What belongs to one event loop, such as its connection, and ends with it.

A program may call ``asyncio.run()`` for every message that it sends. ``asyncio.run`` ends with
``loop.shutdown_asyncgens()``, as do Flask's async views and pytest's plugins: an async generator that is known to the
loop is closed then, while the loop still runs. Where a loop is closed without it, the next one cleans up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_TURNS = 3
"""Turns of a loop in which a transport that was aborted closes its socket, also under TLS."""


class _Kept(Generic[T]):
    __slots__ = ("end", "guard", "value")

    def __init__(self, value: T, end: Callable[[T], Awaitable[None]]) -> None:
        self.value = value
        self.end: Callable[[T], Awaitable[None]] | None = end
        self.guard = _begun(_until_end(self))

    def release(self) -> None:
        """End nothing when the loop ends."""
        self.end = None
        _step(self.guard.aclose())


async def _until_end(kept: _Kept[T]) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        if kept.end is not None:
            await kept.end(kept.value)
            for _ in range(_TURNS):
                await asyncio.sleep(0)


def _begun(generator: AsyncGenerator[None]) -> AsyncGenerator[None]:
    """*generator*, at its ``yield``: from here on the loop knows it."""
    _step(generator.__anext__())
    return generator


def _step(awaitable: Awaitable[None]) -> None:
    """Do what waits for nothing."""
    with contextlib.suppress(StopIteration, StopAsyncIteration):
        awaitable.__await__().send(None)


class PerLoop(Generic[T]):
    """One value for each event loop that asks.

    Args:
        make: the value for the running loop.
        end: ends it, on its loop, as the loop ends.
        drop: ends it from another thread or loop, when its loop is closed already.
    """

    def __init__(self, make: Callable[[], T], end: Callable[[T], Awaitable[None]], drop: Callable[[T], None]) -> None:
        self._make = make
        self._end = end
        self._drop = drop
        self._kept: dict[asyncio.AbstractEventLoop, _Kept[T]] = {}

    def get(self) -> T:
        """The value of the running loop, made if it has none."""
        loop = asyncio.get_running_loop()
        kept = self._kept.get(loop)
        if kept is None:
            self._drop_ended()
            kept = self._kept[loop] = _Kept(self._make(), self._end)
        return kept.value

    def known(self) -> T | None:
        """The value of the running loop, None when it has none."""
        kept = self._kept.get(asyncio.get_running_loop())
        return None if kept is None else kept.value

    def pop(self) -> T | None:
        """As :meth:`known`; from now on it has none, and the caller ends the value."""
        kept = self._kept.pop(asyncio.get_running_loop(), None)
        if kept is None:
            return None
        kept.release()
        return kept.value

    def values(self) -> list[T]:
        """Those of all loops."""
        return [kept.value for kept in list(self._kept.values())]

    def _drop_ended(self) -> None:
        # a loop stays here until another one asks: its value holds it, so nothing else would let it go
        for loop in [known for known in list(self._kept) if known.is_closed()]:
            kept = self._kept.pop(loop, None)
            if kept is not None:
                kept.release()
                self._drop(kept.value)
