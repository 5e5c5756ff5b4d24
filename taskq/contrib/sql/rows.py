"""The outbox's rows: a message or an event as a transaction keeps it until the relay publishes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from taskq.broker.producer import Outgoing
from taskq.client.result import Result
from taskq.client.task import BaseTask, BoundOptions
from taskq.contrib.sql.processed import now_ms
from taskq.errors import ConfigError, DecodeError, UnknownTopicError
from taskq.values import serialization
from taskq.values.checks import check_function, check_items, positional, shown
from taskq.values.message import new_id
from taskq.values.topics import Topic, check_key
from taskq.values.transaction import KeyOf

EVENT = -1
"""The level of a row that is an event; its queue is the topic."""
Row = Mapping[str, Any]
"""The values of :data:`statements.INSERT`."""
_EXAMPLE = "outbox.delay(session, send_receipt, 42)"


class Envelope(msgspec.Struct, array_like=True, frozen=True):
    """The data of an event's row. The topic's limits are in it, so that the relay need not know the app's code."""

    limits: tuple[int, int, int]
    """Age in ms, number and bytes of the events that the topic keeps; 0: no limit."""
    key: str
    """Empty for none."""
    payload: msgspec.Raw


_decoder = msgspec.msgpack.Decoder(Envelope)


def prepared(call: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Row, Result[Any]]:
    """The row of one call, and its handle.

    Args:
        call: a task, or ``task.options(...)``.
        args, kwargs: its arguments.

    Raises:
        ConfigError: no task, or arguments that do not fit it.
        SerializationError: an argument has no wire form.
    """
    if not isinstance(call, (BaseTask, BoundOptions)):
        raise ConfigError(f"the outbox sends a task or task.options(...), as in {_EXAMPLE}; not {shown(call)}")
    outgoing, result = call.prepared(*args, **kwargs)
    return _row_of(outgoing, result), result


def all_prepared(call: Any, calls: Iterable[Sequence[Any]]) -> tuple[list[Row], list[Result[Any]]]:
    """As :func:`prepared`, for each of many argument tuples."""
    pairs = [prepared(call, positional(args, "each call"), {}) for args in check_items(calls, "calls")]
    return [row for row, _ in pairs], [result for _, result in pairs]


def _row_of(outgoing: Outgoing, result: Result[Any]) -> Row:
    now = now_ms()
    return {
        "task_id": result.id,
        "queue": outgoing.keys.queue,
        "level": outgoing.level,
        "due_ms": _due_ms(outgoing.due, now),
        "data": outgoing.data,
        "created_ms": now,
    }


def event_rows(topic: Topic, payloads: Iterable[Any], key: KeyOf | None) -> list[Row]:
    """The rows of events, all of them checked.

    Args:
        topic: as ``app.topic(...)`` returns it.
        payloads: one for each event.
        key: tells the key of a payload.

    Raises:
        UnknownTopicError: no topic, but a name for instance.
        ConfigError: a key that cannot be used.
        SerializationError: a payload has no wire form.
    """
    if not isinstance(topic, Topic):
        raise UnknownTopicError(
            f"the outbox publishes to a topic that was declared, not to {shown(topic)}; "
            "write orders = app.topic('orders', retention='7d'), then outbox.publish(session, orders, ...)"
        )
    if key is not None:
        check_function(key, "key, which tells the key of each payload,")
    return [
        _event_row(topic, payload, key(payload) if key is not None else None)
        for payload in check_items(payloads, "payloads")
    ]


def read_event(data: bytes) -> Envelope:
    """What :func:`event_rows` has put into a row's data.

    Raises:
        DecodeError: it is something else.
    """
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise DecodeError(f"no event of an outbox: {error}", data) from error


def _event_row(topic: Topic, payload: Any, key: str | None) -> Row:
    packed = msgspec.Raw(serialization.dumps(payload, f"an event of {topic.name}"))
    envelope = Envelope(topic.limits, check_key(key) or "", packed)
    return {
        "task_id": new_id().hex(),
        "queue": topic.name,
        "level": EVENT,
        "due_ms": None,
        "data": msgspec.msgpack.encode(envelope),
        "created_ms": now_ms(),
    }


def _due_ms(due: str | None, now: int) -> int | None:
    """A countdown begins when the row is written, not when it is published."""
    if due is None:
        return None
    return now + int(due[1:]) if due.startswith("+") else int(due)
