"""Copies new events of a topic into the queue of one of its groups; runs in every worker of that group.

The script makes it safe to run in many workers at a time, and bounds what waits in a queue: a slow group has its next
thousand events at hand, and the rest stays where every group reads it. While there is nothing to copy the dispatcher
sends nothing; publishing wakes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from taskq.broker.calls import Call
from taskq.broker.keys import Keys
from taskq.broker.link.replies import though_wrongtype
from taskq.broker.scripts import topics as topic_scripts
from taskq.broker.scripts.topics import NEXT_ASLEEP, NEXT_FULL, NEXT_SEEK
from taskq.errors import BrokerError
from taskq.values.subscription import Subscription
from taskq.worker.services.service import Lookout, sweep_wait

LEAST = 0.001
"""Seconds between two looks at least: under load, events collect meanwhile and are copied together."""
FULL_LEAST, FULL_MOST = 0.002, 5.0
"""Seconds between two looks at a full queue: half of the time that it has been full, within these bounds."""


class Dispatcher(Lookout):
    """Dispatches the events of one group.

    Args:
        keys: of the namespace.
        subscription: which group and task.
        run: runs a call on the worker's connection.
        execute: runs a command on it.
        trimmed: told of events that were dropped before this group saw them.
    """

    def __init__(
        self,
        keys: Keys,
        subscription: Subscription,
        run: Callable[[Call], Awaitable[Any]],
        execute: Callable[..., Awaitable[Any]],
        trimmed: Callable[[str, int], None],
    ) -> None:
        super().__init__(f"dispatcher of {subscription.queue}")
        self._keys = keys
        self._subscription = subscription
        self._topic = keys.topic(subscription.topic)
        queue = keys.queue(subscription.queue)
        self._call = topic_scripts.dispatch(
            self._topic, queue, subscription.group, subscription.task, ordered=subscription.ordered
        )
        self._run = run
        self._execute = execute
        self._trimmed = trimmed
        self._full_since = 0.0
        self.dry = False
        """Whether the last look found nothing more to copy."""

    def wake(self) -> None:
        """Something was published: look now."""
        self.dry = False
        super().wake()

    async def _look(self) -> float:
        """Copy what there is room for; seconds until the next look, unless woken."""
        began = time.monotonic()
        copied, missed, what_next = await self._run(self._call)
        if missed:
            self._trimmed(self._subscription.queue, missed)
        self.dry = what_next == NEXT_ASLEEP
        if what_next == NEXT_SEEK:
            await self._begin()
            return 0.0
        if what_next == NEXT_FULL:
            self._full_since = self._full_since or began
            # asleep whatever is published meanwhile: there is no room for it
            await asyncio.sleep(min(max((time.monotonic() - self._full_since) / 2, FULL_LEAST), FULL_MOST))
            return 0.0
        self._full_since = 0.0
        if what_next == NEXT_ASLEEP:
            await asyncio.sleep(LEAST if copied else 0)
            return sweep_wait()
        return 0.0

    async def _rest(self) -> None:
        """Nothing was published for a while: have the topic drop what it need not keep."""
        with contextlib.suppress(BrokerError):
            await self._run(topic_scripts.trim(self._topic))

    async def _begin(self) -> None:
        """Give the group its first position, unless another worker was quicker, and make its queue known to views."""
        subscription = self._subscription
        for registry, name in ((self._keys.topics, subscription.topic), (self._keys.queues, subscription.queue)):
            with though_wrongtype():
                await self._execute("SADD", registry, name)
        await self._run(topic_scripts.seek(self._topic, subscription.group, subscription.start, only_first=True))
