"""The outbox's rows: a message as a transaction keeps it until the relay publishes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskq.broker.producer import Outgoing
from taskq.contrib.sql.processed import now_ms
from taskq.result import Result


def row_of(outgoing: Outgoing, result: Result[Any]) -> Mapping[str, Any]:
    """The values of :data:`statements.INSERT` for a prepared message."""
    now = now_ms()
    return {
        "task_id": result.id,
        "queue": outgoing.keys.queue,
        "level": outgoing.level,
        "due_ms": _due_ms(outgoing.due, now),
        "data": outgoing.data,
        "created_ms": now,
    }


def _due_ms(due: str | None, now: int) -> int | None:
    """A countdown begins when the row is written, not when it is published."""
    if due is None:
        return None
    return now + int(due[1:]) if due.startswith("+") else int(due)
