"""Live broadcast: a message to every worker process that is connected now. Nothing is stored, nothing is sent again.

For cache invalidation and the like, where a process that was away has nothing to make up for. What must not be lost is
an event: see :mod:`taskq.client.app.publishing`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

from taskq.errors import DecodeError, NeverRanError
from taskq.values import serialization
from taskq.values.functions import is_async, never_ran

logger = logging.getLogger("taskq.broadcast")

Handler = Callable[[Any], Any]


class BroadcastHandlers:
    """The functions of one app that get broadcasts, by the name they listen to."""

    def __init__(self) -> None:
        self._handlers: dict[str, list[Handler]] = {}

    def add(self, name: str, handler: Handler) -> None:
        """Have *handler* get what is broadcast under *name*."""
        self._handlers.setdefault(name, []).append(handler)

    def names(self) -> list[str]:
        """What is listened to."""
        return sorted(self._handlers)

    async def handle(self, name: str, data: bytes) -> None:
        """Give a broadcast to its handlers: sync functions in threads, async ones here. None of them raises."""
        try:
            payload = serialization.loads(data)
        except DecodeError:
            logger.error("a broadcast of %r cannot be read; skipped", name)
            return
        await asyncio.gather(*(_call(name, handler, payload) for handler in self._handlers.get(name, ())))


async def _call(name: str, handler: Handler, payload: Any) -> None:
    try:
        answer = handler(payload) if is_async(handler) else await asyncio.to_thread(handler, payload)
        if inspect.isawaitable(answer):  # also that of an ordinary wrapper over an async function
            await answer
        elif why := never_ran(answer):
            raise NeverRanError(why)
    except Exception:
        logger.exception("a handler of the broadcast %r failed", name)
