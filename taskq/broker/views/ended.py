"""The latest messages that ended in each queue, for views: a sample, since workers may end thousands in a second.

Every worker keeps the first :data:`EACH` that succeeded and the first :data:`EACH` that ended otherwise since its
last report, and writes them with it (``lua/count.lua``), every two seconds while it is busy. So where little happens
all are seen, and where much happens some of each kind. Redis keeps the last ``LATEST_KEPT`` of both kinds for a day.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from taskq.broker.keys import QueueKeys
from taskq.broker.scripts import LATEST_KEPT
from taskq.broker.views.inspect import Pipeline

EACH = 25
"""Messages of one kind in one report."""
WELL = "SUCCESS"
STATES = (WELL, "FAILURE", "REVOKED", "EXPIRED", "SKIPPED")


class EndedMessage(msgspec.Struct, array_like=True, frozen=True):
    """One message that has ended."""

    at: int
    """Epoch milliseconds at which Redis had accepted it, by the worker's clock."""
    state: str
    task: str
    id: str
    worker: str
    attempt: int = 1
    runtime: float = 0.0
    """Seconds of its last run; 0 where it never ran."""
    kept: bool = False
    """Whether its outcome was stored, or it is a dead letter."""


_decode = msgspec.msgpack.Decoder(EndedMessage).decode
_encode = msgspec.msgpack.Encoder().encode


def pack(ended: EndedMessage) -> bytes:
    """The row of a message, as Redis keeps it."""
    return _encode(ended)


def read_ended(pipeline: Pipeline, queues: Sequence[QueueKeys]) -> list[tuple[str, EndedMessage]]:
    """The queue and the message, the latest first, of all *queues*; rows that cannot be read are left out.

    Raises:
        BrokerError: Redis could not be asked.
    """
    keys = [(each.queue, key) for each in queues for key in (each.ended_well, each.ended_otherwise)]
    replies = pipeline([("LRANGE", key, 0, LATEST_KEPT - 1) for _, key in keys])
    found: list[tuple[str, EndedMessage]] = []
    for (queue, _), rows in zip(keys, replies, strict=True):
        for row in rows if isinstance(rows, list) else ():
            try:
                found.append((queue, _decode(row)))
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
    return sorted(found, key=lambda item: -item[1].at)
