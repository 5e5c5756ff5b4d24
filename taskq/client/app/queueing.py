"""The part of an app that looks at its queues, pauses and empties them."""

from __future__ import annotations

import asyncio
from typing import Any

from taskq.broker.views import inspect
from taskq.broker.views.inspect import QueueStats
from taskq.client.app.connections import Connected
from taskq.client.queues import Queues
from taskq.client.task import BaseTask


class Queueing(Connected):
    """What :class:`taskq.TaskQ` can do with queues."""

    tasks: dict[str, BaseTask[Any, Any]]

    def known_queues(self) -> list[str]:
        """The queues of this app's tasks, and every other one that Redis knows in this namespace."""
        own = {task.settings.queue for task in self.tasks.values()} | {self.config.task_default_queue}
        return sorted(own.union(inspect.queue_names(self.sync_broker.execute, self.keys)))

    def queues(self) -> list[QueueStats]:
        """Every queue as it is now, by name: what waits, what runs, what failed, whether it is paused."""
        return self._queues.stats()

    def pause(self, queue: str) -> bool:
        """Deliver nothing more of *queue* to any worker until it is resumed, however many restarts there are.

        What runs ends as ever. What a worker holds of it and has not started goes back. Messages, delayed ones and
        retries collect meanwhile.

        Returns:
            Whether that changed something: False when it was paused before.

        Raises:
            ConfigError: no name for a queue.
        """
        return self._queues.pause(queue)

    def resume(self, queue: str) -> bool:
        """Deliver the messages of a paused *queue* again, at once.

        Returns:
            Whether that changed something: False when it was not paused.
        """
        return self._queues.resume(queue)

    def purge(self, queue: str, *, delayed: bool = False) -> int:
        """Drop the messages that wait in *queue*; they become REVOKED. What a worker has is not touched.

        Args:
            queue: its name.
            delayed: also those that are not due yet, retries among them.

        Returns:
            How many were dropped, of those that waited when it began.
        """
        return self._queues.purge(queue, delayed=delayed)

    async def aqueues(self) -> list[QueueStats]:
        """As :meth:`queues`, without blocking the event loop."""
        return await asyncio.to_thread(self.queues)

    async def apause(self, queue: str) -> bool:
        """As :meth:`pause`, without blocking the event loop."""
        return await asyncio.to_thread(self.pause, queue)

    async def aresume(self, queue: str) -> bool:
        """As :meth:`resume`, without blocking the event loop."""
        return await asyncio.to_thread(self.resume, queue)

    async def apurge(self, queue: str, *, delayed: bool = False) -> int:
        """As :meth:`purge`, without blocking the event loop."""
        return await asyncio.to_thread(self.purge, queue, delayed=delayed)

    @property
    def _queues(self) -> Queues:
        return Queues(self.sync_broker, self.keys, self.config, self.known_queues)
