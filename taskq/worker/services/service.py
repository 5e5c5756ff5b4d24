"""What the promoter, the unparker and the dispatcher of a queue have in common: when they look whether there is work.

Redis checks blocking timeouts only ten times a second, so a timer on our side is set to the time that the last look
told, and a wake-up that is published moves it forward.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from abc import ABC, abstractmethod

from taskq.errors import BrokerError, BrokerRefusedError

logger = logging.getLogger("taskq.worker")

SWEEP = 60.0
"""Longest seconds between two looks: what makes up for a wake-up that was lost with its connection."""
TROUBLE_WAIT = 1.0
"""Seconds until the next look after one in which Redis could not be asked."""


def sweep_wait() -> float:
    """Seconds until the next look when nothing is known to come; not the same in all workers."""
    return SWEEP * random.uniform(0.8, 1.2)


class Lookout(ABC):
    """Looks at once, again when it is time, and whenever it is woken.

    Args:
        name: for logs, such as ``promoter of emails``.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._tell_at = 0.0

    def start(self) -> None:
        """Begin; the first look is at once."""
        self._task = asyncio.create_task(self._loop())

    def wake(self) -> None:
        """There is something new: look now."""
        self._woken.set()

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _loop(self) -> None:
        while True:
            self._woken.clear()
            try:
                wait = await self._look()
            except BrokerRefusedError as error:  # it stays so until somebody does something
                self._tell(error)
                wait = TROUBLE_WAIT
            except BrokerError as error:
                logger.debug("%s: %s", self._name, error)
                wait = TROUBLE_WAIT
            except Exception:  # a reply that nothing of ours explains must not end this for good
                logger.exception("%s failed", self._name)
                wait = SWEEP
            try:
                async with asyncio.timeout(wait):
                    await self._woken.wait()
            except TimeoutError:
                if wait >= SWEEP / 2:
                    await self._rest()

    def _tell(self, error: BrokerError) -> None:
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + SWEEP
            logger.warning("%s: %s; trying again", self._name, error)

    @abstractmethod
    async def _look(self) -> float:
        """Do what there is to do; seconds until the next look, unless woken.

        Raises:
            BrokerError: Redis could not be asked; the next look is soon.
        """

    async def _rest(self) -> None:  # noqa: B027 - most have nothing to do then
        """Nobody has called for a long while: what need not be done sooner."""
