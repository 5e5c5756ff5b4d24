"""Copies new events of a topic into the queues of its groups; runs in every worker of these groups.

The script makes it safe to run in many workers at a time, and bounds what waits in a queue: a slow group has its next
events at hand, and the rest stays where every group reads it. The groups that a worker serves are looked after
together, so that what they all get is read once. While there is nothing to copy the dispatcher sends nothing;
publishing wakes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from taskq.broker import topic_scripts
from taskq.broker.keys import Keys
from taskq.broker.scripts import Call
from taskq.broker.topic_scripts import MOST_GROUPS, NEXT_ASLEEP, NEXT_FULL, NEXT_SEEK, Group
from taskq.errors import BrokerError, BrokerRefusedError
from taskq.subscription import Subscription
from taskq.worker.lookout import TROUBLE_WAIT, Lookout, sweep_wait

logger = logging.getLogger("taskq.worker")

LEAST = 0.001
"""Seconds between two looks at least: under load, events collect meanwhile and are copied together."""
FULL_LEAST, FULL_MOST = 0.002, 5.0
"""Seconds between two looks at a full queue: half of the time that it has been full, within these bounds."""


class _Member:
    """One group, and when to look after it again."""

    __slots__ = ("asleep", "due", "full_since", "group", "subscription")

    def __init__(self, keys: Keys, subscription: Subscription) -> None:
        self.subscription = subscription
        queue = keys.queue(subscription.queue)
        self.group = Group(queue, subscription.group, subscription.task, subscription.ordered)
        self.due = 0.0
        """``time.monotonic()`` of the next look."""
        self.asleep = False
        """Whether the last look found nothing more to copy, and publishing will wake us."""
        self.full_since = 0.0
        """``time.monotonic()`` since when its queue is full; 0 when it is not."""


class Dispatcher(Lookout):
    """Dispatches the events of one topic.

    Args:
        keys: of the namespace.
        subscriptions: which groups and tasks, all of one topic.
        run: runs a call on the worker's connection.
        execute: runs a command on it.
        trimmed: told of events that were dropped before a group saw them, with its queue.
    """

    def __init__(
        self,
        keys: Keys,
        subscriptions: Sequence[Subscription],
        run: Callable[[Call], Awaitable[Any]],
        execute: Callable[..., Awaitable[Any]],
        trimmed: Callable[[str, int], None],
    ) -> None:
        super().__init__(f"dispatcher of {subscriptions[0].topic}")
        self._keys = keys
        self._topic = keys.topic(subscriptions[0].topic)
        self._members = [_Member(keys, subscription) for subscription in subscriptions]
        self._run = run
        self._execute = execute
        self._trimmed = trimmed
        self._news = False

    @property
    def dry(self) -> bool:
        """Whether the last look at every group found nothing more to copy."""
        return not self._news and all(member.asleep for member in self._members)

    def wake(self) -> None:
        """Something was published: look now."""
        self._news = True
        super().wake()

    async def _look(self) -> float:
        """Look after the groups for which it is time; seconds until the next look, unless woken."""
        self._hear()
        now = time.monotonic()
        due = [member for member in self._members if member.due <= now]
        if any(member.asleep for member in due):
            await self._trim()
        copied = 0
        for first in range(0, len(due), MOST_GROUPS):
            copied += await self._look_after(due[first : first + MOST_GROUPS])
        if copied and self.dry:
            await asyncio.sleep(LEAST)
        return max(min(member.due for member in self._members) - time.monotonic(), 0.0)

    def _hear(self) -> None:
        """Look now where something was published, but for full queues: there is no room for it."""
        if self._news:
            self._news = False
            for member in self._members:
                member.asleep = False
                if not member.full_since:
                    member.due = 0.0

    async def _look_after(self, members: Sequence[_Member]) -> int:
        """Copy what there is room for, and set when to look again; how many were copied."""
        try:
            answers = await self._run(topic_scripts.dispatch(self._topic, [member.group for member in members]))
            for member, (_, missed, what_next) in zip(members, answers, strict=True):
                if missed:
                    self._trimmed(member.subscription.queue, missed)
                if what_next == NEXT_SEEK:
                    await self._begin(member.subscription)
                self._plan(member, what_next)
        except BrokerError as error:
            if len(members) > 1 and isinstance(error, BrokerRefusedError):  # the trouble of one group is its own
                return sum([await self._look_after([member]) for member in members])
            for member in members:
                logger.debug("dispatcher of %s: %s", member.subscription.queue, error)
                member.due, member.asleep = time.monotonic() + TROUBLE_WAIT, False
            return 0
        return sum(copied for copied, _, _ in answers)

    def _plan(self, member: _Member, what_next: int) -> None:
        """Set when to look after *member* again."""
        now = time.monotonic()
        member.asleep = what_next == NEXT_ASLEEP
        if what_next == NEXT_FULL:
            member.full_since = member.full_since or now
            member.due = now + min(max((now - member.full_since) / 2, FULL_LEAST), FULL_MOST)
        else:
            member.full_since = 0.0
            member.due = now + sweep_wait() if member.asleep else now

    async def _trim(self) -> None:
        """Nothing was published for a while: have the topic drop what it need not keep."""
        with contextlib.suppress(BrokerError):
            await self._run(topic_scripts.trim(self._topic))

    async def _begin(self, subscription: Subscription) -> None:
        """Give a group its first position, unless another worker was quicker, and make its queue known to views."""
        await self._execute("SADD", self._keys.topics, subscription.topic)
        await self._execute("SADD", self._keys.queues, subscription.queue)
        await self._run(topic_scripts.seek(self._topic, subscription.group, subscription.start, only_first=True))
