"""Reading a topic by hand: a reader iterates over events and says itself how far it has come."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from taskq.broker.keys import TopicKeys
from taskq.broker.link.sync import SyncBroker
from taskq.broker.scripts import topics as topic_scripts
from taskq.broker.views import topics
from taskq.errors import PositionMovedError
from taskq.values.topics import Event

logger = logging.getLogger("taskq.reader")


class EventReader:
    """Reads for a group that has no subscriber; made by ``app.events.reader(...)``.

    Iterating gives the events after the committed position, in order, and ends when there are no more; iterating again
    goes on from there. Nothing is remembered in Redis until :meth:`commit`: a reader that ends without it, or dies, is
    followed by one that reads the same events again. One reader of a group works at a time: the commit of a second
    one is refused.
    """

    def __init__(self, broker: SyncBroker, keys: TopicKeys, group: str, start: str) -> None:
        self._broker = broker
        self._keys = keys
        self._group = group
        cursor, read = broker.run(topic_scripts.seek(keys, group, start, only_first=True))
        self._committed: str = cursor.decode()
        self._position: str = self._committed
        self._read = int(read)
        self._missed = 0

    def __repr__(self) -> str:
        return f"<EventReader {self._keys.topic}/{self._group} at {self._position}>"

    @property
    def position(self) -> str:
        """The id of the event that was read last, committed or not."""
        return self._position

    def __iter__(self) -> Iterator[Event]:
        for events in topics.pages(self._broker.execute, self._keys, after=self._position):
            for event in events:
                self._note(event)
                yield event

    def commit(self) -> None:
        """Remember that every event that was got from this reader, the last included, is done.

        Raises:
            PositionMovedError: the group's position was moved meanwhile, by another reader, a subscriber or a seek.
            BrokerError: Redis could not be asked in time; the commit may be repeated.
        """
        if self._position == self._committed:
            return
        call = topic_scripts.commit(self._keys, self._group, self._committed, self._position, self._read, self._missed)
        if not self._broker.run(call):
            raise PositionMovedError(
                f"group {self._group!r} of topic {self._keys.topic!r} was moved by somebody else while this reader "
                "read; nothing was committed. One reader of a group works at a time"
            )
        self._committed, self._missed = self._position, 0

    def _note(self, event: Event) -> None:
        missed = event.ordinal - self._read - 1
        if missed > 0:
            self._missed += missed
            logger.error(
                "group %s/%s: its topic dropped %d events before the group saw them",
                self._keys.topic, self._group, missed,
            )  # fmt: skip
        self._position, self._read = event.id, event.ordinal
