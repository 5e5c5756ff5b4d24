"""The relay's way into Redis: the rows of one page, messages and events, each published once by its id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskq.broker import scripts
from taskq.broker.calls import Arg
from taskq.broker.scripts import topics as topic_scripts
from taskq.client.app import TaskQ
from taskq.contrib.sql.rows import EVENT, read_event
from taskq.errors import DecodeError
from taskq.values.message import decode

NO_LIMITS = (0, 0, 0)


class Publisher:
    """Publishes rows of ``taskq_outbox`` in their order: one call for each queue, and for each topic.

    Args:
        app: says where Redis is and which namespace.
    """

    def __init__(self, app: TaskQ) -> None:
        self._app = app
        self._queues: set[str] = set()
        self._limits: dict[str, tuple[int, int, int]] = {}

    def publish(self, rows: Sequence[Any]) -> None:
        """Publish *rows*, at most 1,000.

        Raises:
            BrokerError: Redis cannot be used; some of the rows may be published.
        """
        by_queue: dict[str, list[Arg]] = {}
        by_topic: dict[str, list[Any]] = {}
        for row in rows:
            if row.level == EVENT:
                by_topic.setdefault(row.queue, []).append(row)
            else:
                due = "" if row.due_ms is None else row.due_ms
                by_queue.setdefault(row.queue, []).extend((row.task_id, *_routed(row, due)))
        for queue, quads in by_queue.items():
            self._send_messages(queue, quads)
        for topic, events in by_topic.items():
            self._send_events(topic, events)

    def _send_messages(self, queue: str, quads: Sequence[Arg]) -> None:
        broker, keys = self._app.sync_broker, self._app.keys
        if queue not in self._queues:
            broker.execute("SADD", keys.queues, queue)
            self._queues.add(queue)
        broker.run(scripts.relay(keys.queue(queue), quads))

    def _send_events(self, topic: str, rows: Sequence[Any]) -> None:
        limits, triples = NO_LIMITS, list[Arg]()
        for row in rows:
            data = bytes(row.data)
            try:
                event = read_event(data)
            except DecodeError:
                triples += (row.task_id, "", data)  # goes on, for the dead letter queues of the groups
            else:
                limits = event.limits  # the latest that was declared holds
                triples += (row.task_id, event.key, bytes(event.payload))
        broker, keys = self._app.sync_broker, self._app.keys.topic(topic)
        if limits not in (NO_LIMITS, self._limits.get(topic)):
            age, most, size = limits
            broker.execute("SADD", self._app.keys.topics, topic)
            broker.execute("HSET", keys.state, "age", age, "events", most, "bytes", size)
            self._limits[topic] = limits
        broker.run(topic_scripts.relay_events(keys, limits, triples))


def _routed(row: Any, due: Arg) -> tuple[Arg, Arg, Arg]:
    """Level, due and message as the script takes them; what cannot be read goes on, for the dead letter queue."""
    data = bytes(row.data)
    try:
        meta = decode(data).meta
    except DecodeError:
        meta = None
    level, message = scripts.routed(row.level, data, meta.ordering_key if meta else None)
    return level, due, message
