"""Rate limits: which tasks have one, how many starts count now, and how many messages wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taskq.client.app import TaskQ

MOST = 200
"""Limits that are looked at."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The rate limit of one task in one queue."""

    task: str
    queue: str
    rate: str
    """Such as ``100/s`` or ``5/60s``; empty where the code is not known."""
    starts: int
    """Starts that count in the present window, about."""
    allowed: int
    """Starts in a window; 0 where the code is not known."""
    parked: int
    """Messages that wait for a permit."""


def limits(app: TaskQ, queues: Sequence[str]) -> list[Limit]:
    """The limits of the app's code, and those that messages wait for; the fullest first. Two round trips.

    Raises:
        BrokerError: Redis could not be asked.
    """
    pipeline = app.sync_broker.pipeline
    replies = pipeline([("SMEMBERS", app.keys.queue(name).limited) for name in queues])
    found = {
        (task.decode(errors="replace"), queue)
        for queue, reply in zip(queues, replies, strict=True)
        for task in (reply if isinstance(reply, list) else ())
    }
    known = {name: task.settings.rate_limit for name, task in app.tasks.items() if task.settings.rate_limit}
    found |= {(name, app.tasks[name].settings.queue) for name in known}
    chosen = sorted(found)[:MOST]
    counts = pipeline(
        [
            command
            for task, queue in chosen
            for command in (
                ("ZCARD", app.keys.queue(queue).permits(task)),
                ("LLEN", app.keys.queue(queue).parked(task)),
            )
        ]
    )
    rows = []
    for (task, queue), starts, parked in zip(chosen, counts[::2], counts[1::2], strict=True):
        limit = known.get(task)
        rows.append(
            Limit(
                task,
                queue,
                str(limit or "").replace("/1s", "/s"),
                _number(starts),
                limit.count if limit else 0,
                _number(parked),
            )
        )
    return sorted(rows, key=lambda row: (-row.parked, row.task, row.queue))


def _number(reply: object) -> int:
    return reply if isinstance(reply, int) else 0
