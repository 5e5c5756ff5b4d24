"""How this worker stands with its queues: whether it has its leases, which levels there are, what is paused."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from taskq import failpoints
from taskq.broker import scripts
from taskq.broker.link.replies import is_wrongtype
from taskq.broker.views.inspect import check_levels
from taskq.errors import BrokerError
from taskq.values.config import Config
from taskq.worker.partition.connection import WorkerConnection
from taskq.worker.partition.partition import QueueLink
from taskq.worker.partition.wakeup import Doorbell

PAUSED_LOOK_EVERY = 5.0
"""Seconds between looks at a paused queue: what makes up for a wake-up that was lost."""

UNREADABLE_LOOK_EVERY = 5.0
"""Seconds between looks at a key that holds another type than ours."""

logger = logging.getLogger("taskq.worker")


class Standing:
    """Keeps up with what Redis says of our queues besides their messages.

    Args:
        connection: of the worker.
        config: says how long a lease is.
        links: the queues.
        doorbell: rung when there is something to look at.
        restart_reading: called when other streams are to be read than the read under way asked for.
        interrupt_reading: ends the read under way, because it reads what is paused, or not what was resumed.
        give_back: gives back what was not started of a queue.
    """

    def __init__(
        self,
        connection: WorkerConnection,
        config: Config,
        links: Sequence[QueueLink],
        doorbell: Doorbell,
        restart_reading: Callable[[], None],
        interrupt_reading: Callable[[], Awaitable[None]],
        give_back: Callable[[QueueLink], None],
    ) -> None:
        self._connection = connection
        self._lease_ms = round(config.lease_timeout * 1000)
        self._links = links
        self._doorbell = doorbell
        self._restart_reading = restart_reading
        self._interrupt_reading = interrupt_reading
        self._give_back = give_back
        self._levels_stale = False
        self._pauses_stale = False
        self._registered_at = 0.0
        self.pauses_seen = 0.0
        """``time.monotonic()`` of when it was last known what is paused."""
        self.registered = False
        """Whether every queue's lease stands under our present name."""

    async def register(self) -> None:
        """Take out the leases under our present name.

        Raises:
            BrokerError: Redis cannot be reached, or refuses.
        """
        # two round trips for however many queues: the first lease must not run out before the last is there
        await self._read_levels()
        if failpoints.ARMED:
            failpoints.hit("register.levels")
        calls = []
        for link in self._links:
            link.revocations = True
            calls.append(scripts.register(link.keys, link.consumer, self._lease_ms, link.streams))
        replies = await self._connection.run_calls(calls)
        for link, reply in zip(self._links, replies, strict=True):
            self._take_note(link, reply)
            if failpoints.ARMED:
                failpoints.hit("register.queue")
            link.hot = bool(link.readable)
        self._registered_at = time.monotonic()
        self.registered = True
        if failpoints.ARMED:
            failpoints.hit("register.done")

    def _take_note(self, link: QueueLink, reply: Any) -> None:
        """What Redis said to the registration of one queue.

        Raises:
            BrokerError: it was refused, and not since a key of this queue is of another type.
        """
        before = link.unreadable
        if not isinstance(reply, BrokerError):
            link.unreadable = {link.streams[number - 1] for number in reply[1:]}
        elif is_wrongtype(reply):
            link.unreadable = set(link.streams)  # no lease, so nothing may be fetched: other queues are served
        else:
            raise reply
        if link.unreadable and link.unreadable != before:
            keys = sorted(link.unreadable) if link.readable else [link.keys.consumers]
            logger.error(
                "queue %s: not of the type that taskq uses, so not read until somebody deletes it: %s",
                *(link.queue, b", ".join(keys).decode(errors="replace")),
            )

    def refresh_levels(self) -> None:
        """A priority level may have come into use: look, and read it from now on."""
        self._levels_stale = True
        self._doorbell.wake()

    def refresh_pauses(self) -> None:
        """A queue may have been paused or resumed: look."""
        self._pauses_stale = True
        self._doorbell.wake()

    async def bring_up_to_date(self) -> None:
        """Look at what may have changed, and register where that is needed.

        Raises:
            BrokerError: Redis could not be asked; the next call asks again.
        """
        if self._levels_stale:
            await self._look_at_levels()
        if not self.registered or self._look_again():
            await self.register()
        if self._pauses_stale or (self.any_paused() and time.monotonic() - self.pauses_seen > PAUSED_LOOK_EVERY):
            await self._look_at_pauses()

    def any_paused(self) -> bool:
        """Whether one of the queues is paused, as far as we know."""
        return any(link.paused for link in self._links)

    def must_look(self) -> bool:
        """Whether to look again although nobody calls: at what is paused, or cannot be read."""
        return self.any_paused() or any(link.unreadable for link in self._links)

    def _look_again(self) -> bool:
        """Whether it is time to see if a key that held another type is gone."""
        unreadable = any(link.unreadable for link in self._links)
        return unreadable and time.monotonic() - self._registered_at > UNREADABLE_LOOK_EVERY

    def note_pause(self, link: QueueLink, paused: bool) -> bool:
        """Note whether a queue is paused; whether that is news."""
        if link.paused == paused:
            return False
        link.paused = paused
        if paused:
            self.pauses_seen = time.monotonic()
            self._give_back(link)
        else:
            link.hot = True
        self._doorbell.wake()
        return True

    async def _look_at_levels(self) -> None:
        self._levels_stale = False
        try:
            before = [link.streams for link in self._links]
            await self._read_levels()
            if [link.streams for link in self._links] != before:
                if failpoints.ARMED:
                    failpoints.hit("levels.changed")
                self.registered = False
        except BrokerError:
            self._levels_stale = True
            raise
        if not self.registered:
            self._restart_reading()

    async def _look_at_pauses(self) -> None:
        self._pauses_stale = False
        try:
            found = await self._connection.execute("MGET", *(link.keys.paused for link in self._links))
            self.pauses_seen = time.monotonic()
            news = [self.note_pause(link, since is not None) for link, since in zip(self._links, found, strict=True)]
            if any(news):
                await self._interrupt_reading()
        except BrokerError:
            self._pauses_stale = True
            raise

    async def _read_levels(self) -> None:
        found = await self._connection.pipeline([("SMEMBERS", link.keys.levels) for link in self._links])
        for link, extra in zip(self._links, found, strict=True):
            if isinstance(extra, BrokerError) and not is_wrongtype(extra):
                raise extra
            link.set_levels([] if isinstance(extra, BrokerError) else check_levels(extra))
