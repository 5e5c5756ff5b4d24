"""Event streams as a whole: ``app.events`` lists topics and groups, and moves groups to another position."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from datetime import datetime

from taskq.broker.keys import Keys
from taskq.broker.link.sync import SyncBroker
from taskq.broker.scripts import topics as topic_scripts
from taskq.broker.views import topics
from taskq.broker.views.topics import PAGE, GroupStats, TopicStats
from taskq.client.event_reader import EventReader
from taskq.errors import ConfigError, UnknownGroupError, UnknownTopicError
from taskq.values.checks import check_count, check_flag, shown
from taskq.values.subscription import check_group, check_start
from taskq.values.topics import Event, Topic, check_instant, epoch_ms

MAX_LAST = 100_000
"""Most events that :meth:`EventStreams.last` reads at once."""


class EventStreams:
    """The topics of a namespace: ``app.events``.

    Args:
        broker: runs the commands.
        keys: of the namespace.
        declared: the topics that the app knows; others must be known to Redis.
    """

    def __init__(self, broker: SyncBroker, keys: Keys, declared: Mapping[str, Topic]) -> None:
        self._broker = broker
        self._keys = keys
        self._declared = declared

    def topics(self) -> list[TopicStats]:
        """Every topic that the app declares or Redis knows."""
        names = {*self._declared, *topics.topic_names(self._broker.execute, self._keys)}
        return [topics.topic_stats(self._broker.execute, self._keys, name) for name in sorted(names)]

    def groups(self, topic: str) -> list[GroupStats]:
        """The groups of *topic* that have begun to read.

        Raises:
            UnknownTopicError: neither the app nor Redis knows the topic.
        """
        self._check(topic)
        return topics.group_stats(self._broker.execute, self._keys, topic)

    def pages(
        self,
        topic: str,
        *,
        after: str = "0-0",
        start: datetime | None = None,
        end: datetime | None = None,
        size: int = PAGE,
    ) -> Iterator[list[Event]]:
        """Events of *topic* in order, a page at a time, whoever has read them: memory stays flat.

        Args:
            topic: its name.
            after: the id of the event before the first wanted.
            start, end: only events published from *start* on and before *end*.
            size: events in a page, at most 10,000.

        Raises:
            UnknownTopicError: neither the app nor Redis knows the topic.
            ConfigError: an id or datetime that cannot be used.
        """
        self._check(topic)
        if start is not None:
            after = _before(start, "start")
        until = "+" if end is None else _before(end, "end")
        check_count(size, "size", 1)
        return topics.pages(self._broker.execute, self._keys.topic(topic), check_event_id(after), until, size)

    def last(self, topic: str, count: int, *, end: datetime | None = None) -> list[Event]:
        """The newest *count* events (at most 100,000) of *topic*, published before *end*, oldest first.

        Raises as :meth:`pages`.
        """
        self._check(topic)
        check_count(count, "count", 0, MAX_LAST)
        until = "+" if end is None else _before(end, "end")
        return topics.newest(self._broker.execute, self._keys.topic(topic), count, until)

    def end(self, topic: str) -> str:
        """The id of the newest event of *topic*; ``0-0`` when there is none. Raises as :meth:`groups`."""
        self._check(topic)
        return topics.topic_stats(self._broker.execute, self._keys, topic).newest or "0-0"

    def seek(self, topic: str, group: str, to: str | datetime, *, new: bool = False) -> None:
        """Have *group* go on reading somewhere else.

        What is in the group's queue already (at most 1,000 events) is handled in any case.

        Args:
            topic, group: whose position to set.
            to: ``"earliest"``, ``"latest"``, a datetime, or an event's id: that event is the next to be read.
            new: also a group that has not begun to read: it begins there.

        Raises:
            UnknownTopicError: neither the app nor Redis knows the topic.
            UnknownGroupError: the group has not begun to read, and *new* was not given.
            ConfigError: a group or place that cannot be used.
        """
        self._check(topic)
        keys, place = self._keys.topic(topic), _place(to, "to")
        call = topic_scripts.seek(keys, check_group(group), place, only_known=not check_flag(new, "new"))
        if self._broker.run(call) is None:
            raise self._unknown_group(topic, group, "new=True (taskq events seek --new) has it begin there")

    def replay(self, topic: str, group: str, start: str | datetime = "earliest", end: datetime | None = None) -> int:
        """Have *group*, and no other, handle events again that it has read already.

        They are copied into the group's queue as there is room, beside what is published meanwhile; the group's
        position does not move. Ask :meth:`groups` how far that is: ``replays`` is 0 when all are copied.

        Args:
            topic, group: what to read, and who.
            start: ``"earliest"``, an event's id, or a datetime: the first event to handle again.
            end: only events published before this instant; and in any case only those before the group's position.

        Returns:
            How many events that are.

        Raises:
            UnknownTopicError: neither the app nor Redis knows the topic.
            UnknownGroupError: the group has not begun to read.
            ConfigError: a place that cannot be used; an end before the start.
        """
        self._check(topic)
        first = _place(start, "start")
        end_ms = None if end is None else max(epoch_ms(check_instant(end, "end")), 0)
        if first == "latest":
            raise ConfigError("start must be 'earliest', a datetime or an event's id: nothing comes after 'latest'")
        if isinstance(start, datetime) and end is not None and end <= start:
            raise ConfigError(f"end must be after start: nothing lies between {start} and {end}")
        call = topic_scripts.reread(self._keys.topic(topic), check_group(group), first, end_ms, secrets.token_hex(8))
        count = int(self._broker.run(call))
        if count == -1:
            raise self._unknown_group(topic, group, "there is nothing to replay")
        if count == -2:
            raise ConfigError(f"100 replays of group {group!r} of topic {topic!r} wait already")
        return count

    def reader(self, topic: str, *, group: str, start: str | datetime = "earliest") -> EventReader:
        """Read *topic* by hand, from the position that *group* has committed; see :class:`EventReader`.

        Args:
            topic: its name.
            group: whose position it is; it should have no subscriber.
            start: where a new group begins, as for ``@app.subscriber``.

        Raises:
            UnknownTopicError: neither the app nor Redis knows the topic.
            ConfigError: a group or start that cannot be used.
        """
        self._check(topic)
        return EventReader(self._broker, self._keys.topic(topic), check_group(group), check_start(start))

    def _unknown_group(self, topic: str, group: str, hint: str) -> UnknownGroupError:
        known = ", ".join(topics.group_names(self._broker.execute, self._keys, topic)) or "none"
        return UnknownGroupError(f"no group {group!r} has begun to read topic {topic!r} (known are: {known}); {hint}")

    def _check(self, topic: str) -> None:
        named = isinstance(topic, str) and topic.isprintable()  # else Redis cannot be asked
        if named and (topic in self._declared or self._broker.execute("SISMEMBER", self._keys.topics, topic)):
            return
        raise UnknownTopicError(f"topic {shown(topic)} is neither declared nor known to Redis in this namespace")


def check_event_id(value: str) -> str:
    """Return *value* if it has the form of an event's id.

    Raises:
        ConfigError: it has not.
    """
    ms, _, sequence = value.partition("-") if isinstance(value, str) else ("", "", "")
    if (
        not (ms.isascii() and ms.isdigit() and sequence.isascii() and sequence.isdigit())
        or len(value) > 40
        or max(int(ms), int(sequence)) >= 2**64
    ):
        raise ConfigError(f"an event's id looks like '1765000000000-0', not {shown(value)}")
    return value


def _place(value: str | datetime, what: str) -> str:
    """The form in which scripts take a place: of a start, or of an event's id."""
    if isinstance(value, str) and "-" in value:
        return f"after {_id_before(value)}"
    return check_start(value, what)


def _id_before(event_id: str) -> str:
    ms, _, sequence = check_event_id(event_id).partition("-")
    if int(sequence):
        return f"{int(ms)}-{int(sequence) - 1}"
    return f"{int(ms) - 1}-{2**64 - 1}" if int(ms) else "0-0"


def _before(instant: datetime, what: str) -> str:
    """The last id before *instant*."""
    return _id_before(f"{max(epoch_ms(check_instant(instant, what)), 0)}-0")
