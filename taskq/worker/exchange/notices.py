"""The worker's ear: what is published to its queues reaches it here at once.

Nothing depends on it for correctness, since pub/sub forgets what it sends while we are away: a delayed message is
found by the promoter's sweep, a revocation by the look-up at fetch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from taskq.broker.link.address import Address
from taskq.broker.link.aio import AsyncConnection
from taskq.errors import BrokerError
from taskq.worker.partition.partition import QueueLink

logger = logging.getLogger("taskq.worker")

PUBLISHED = "published"
"""What is published on a topic's channel, when its dispatchers sleep."""
WORDS = ("delayed", "levels", "revoked", "paused", "parked")
"""What can be published: an earlier delayed message, a new priority level, a revocation (and its id), a pause or its
end, a message parked behind a rate limit."""


class Control:
    """Listens on the wake channels of a worker's queues, and of the topics that some of them get their events from.

    Args:
        address: where Redis is.
        connect_timeout: seconds for one attempt to connect.
        links: the queues.
        topics: for each topic's channel, the queues of its groups.
        heard: called with the link and the words of a message.
        broadcasts: for each channel of live broadcasts, its name.
        told: called with the name and bytes of a broadcast.
    """

    def __init__(
        self,
        address: Address,
        connect_timeout: float,
        links: Sequence[QueueLink],
        topics: Mapping[bytes, Sequence[QueueLink]],
        heard: Callable[[QueueLink, list[str]], None],
        broadcasts: Mapping[bytes, str],
        told: Callable[[str, bytes], None],
    ) -> None:
        self._address = address
        self._connect_timeout = connect_timeout
        self._links = {link.keys.wake: link for link in links}
        self._topics = topics
        self._heard = heard
        self._broadcasts = broadcasts
        self._told = told
        self._connection: AsyncConnection | None = None

    async def run(self) -> None:
        """Listen until cancelled, connecting again when needed."""
        pause = 0.05
        while True:
            try:
                self._connection = await AsyncConnection.open(
                    self._address, self._connect_timeout, "taskq-control", on_push=self._pushed
                )
                self._connection.send("SUBSCRIBE", *self._links, *self._topics, *self._broadcasts)
                pause = 0.05
                await self._connection.lost
            except BrokerError as error:
                logger.debug("control connection: %s", error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _pushed(self, reply: list[bytes]) -> None:
        for subscribed in self._topics.get(reply[1], ()):
            self._heard(subscribed, [PUBLISHED])
        if reply[0] == b"message" and reply[1] in self._broadcasts:
            self._told(self._broadcasts[reply[1]], reply[2])
        link = self._links.get(reply[1])
        if link is None:
            return
        if reply[0] == b"message":
            self._heard(link, reply[2].decode(errors="replace").split(" ", 1))
        elif reply[0] == b"subscribe":
            for word in WORDS:  # what was said until now, nobody heard
                self._heard(link, [word])
