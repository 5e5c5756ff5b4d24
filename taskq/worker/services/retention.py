"""Lets go of old dead letters, where the app asks for that; runs in every worker, the script makes that safe."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from taskq.broker import scripts
from taskq.broker.calls import Call
from taskq.errors import BrokerError
from taskq.values.config import Config
from taskq.values.durations import milliseconds
from taskq.worker.partition.partition import QueueLink

logger = logging.getLogger("taskq.worker")

EVERY = 30.0
"""Seconds between two looks at a queue, by one worker."""


class Retention:
    """Keeps the dead letters of a worker's queues within ``dlq_retention`` and ``dlq_max_entries``.

    Args:
        config: of the app.
        links: the queues.
        run: runs a call on the worker's connection.
        tell: told of each queue, the reason (``age`` or ``count``) and how many were deleted.
    """

    def __init__(
        self,
        config: Config,
        links: Sequence[QueueLink],
        run: Callable[[Call], Awaitable[Any]],
        tell: Callable[[str, str, int], object],
    ) -> None:
        self._most_ms = None if config.dlq_retention is None else milliseconds(config.dlq_retention)
        self._most = config.dlq_max_entries
        self._links = links
        self._run = run
        self._tell = tell

    async def run(self) -> None:
        """Look at every queue again and again; waits for ever when there is nothing to keep to."""
        if self._most_ms is None and self._most is None:
            await asyncio.Event().wait()
        while True:
            for link in self._links:
                try:
                    await self._expel(link)
                except BrokerError as error:
                    logger.debug("retention of %s: %s", link.queue, error)
                except Exception:  # a reply that nothing of ours explains must not end this for good
                    logger.exception("the retention of %s failed", link.queue)
            await asyncio.sleep(EVERY * random.uniform(0.8, 1.2))

    async def _expel(self, link: QueueLink) -> None:
        more = 1
        while more:
            aged, surplus, more = await self._run(scripts.evict(link.keys, self._most_ms, self._most))
            for reason, count in (("age", aged), ("count", surplus)):
                if count:
                    logger.warning("deleted %d dead letters of queue %s for their %s", count, link.queue, reason)
                    self._tell(link.queue, reason, count)
