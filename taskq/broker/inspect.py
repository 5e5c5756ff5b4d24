"""The read side: what is in Redis, for results, views and metrics. Workers never use it.

Every read is bounded; nothing here scans the key space.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from taskq.broker import scripts
from taskq.broker.keys import GROUP, Keys, QueueKeys
from taskq.message import DEFAULT_PRIORITY

R = TypeVar("R")
Execute = Callable[..., Any]
"""Runs one Redis command and returns its reply."""
Command = Sequence[Any]
Pipeline = Callable[[Sequence[Command]], list[Any]]
"""Runs several commands in one round trip and returns their replies; one that was refused is an exception in the
list. :meth:`taskq.broker.sync.SyncBroker.pipeline` is one."""


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One queue at one moment. Ages in seconds; None where nothing waits."""

    queue: str
    lag: int
    """Not yet delivered."""
    pending: int
    """Delivered, not settled."""
    delayed: int
    dead: int
    oldest_age: float | None
    """Of the oldest message that is not yet delivered."""
    workers: int
    paused: bool = False
    """Whether nothing of it is delivered until it is resumed."""
    parked: int = 0
    """Waiting for a rate limit."""

    @property
    def backlog(self) -> int:
        """All that is to do now: lag, pending and parked."""
        return self.lag + self.pending + self.parked


def run_steps(steps: Generator[Sequence[Command], list[Any], R], pipeline: Pipeline) -> R:
    """Run a read that is written in steps: it yields the commands of a step and is sent their replies.

    Several such reads can share their round trips, which is why they are written so.

    Raises:
        BrokerError: Redis could not be reached.
    """
    commands = next(steps)
    while True:
        try:
            commands = steps.send(pipeline(commands))
        except StopIteration as end:
            found: R = end.value
            return found


def queue_names(execute: Execute, keys: Keys) -> list[str]:
    """Every queue that was ever used in this namespace."""
    return sorted(name.decode() for name in execute("SMEMBERS", keys.queues))


def levels(execute: Execute, keys: QueueKeys) -> list[int]:
    """The priority levels in use, high to low."""
    extra = {int(level) for level in execute("SMEMBERS", keys.levels)}
    return sorted(extra | {DEFAULT_PRIORITY}, reverse=True)


def queue_stats(execute: Execute, keys: QueueKeys) -> QueueStats:
    """Count one queue.

    Lag is the stream's length less what is pending: exact on every server version, because settled entries are
    deleted. (Redis's own ``lag`` field turns NULL after some deletions.)
    """
    seconds, micros = execute("TIME")
    now_ms = int(seconds) * 1000 + int(micros) // 1000
    lag = pending = 0
    oldest: int | None = None
    for stream in scripts.streams_of(keys, levels(execute, keys)):
        length = execute("XLEN", stream)
        if not length:
            continue
        delivered, last_delivered = _group(execute, stream)
        pending += delivered
        lag += max(length - delivered, 0)
        if length > delivered:
            head = execute("XRANGE", stream, b"(" + last_delivered, "+", "COUNT", 1)
            if head:
                born = int(head[0][0].split(b"-")[0])
                oldest = born if oldest is None else min(oldest, born)
    lag += int(execute("HGET", keys.lanes, "waiting") or 0)  # what waits in lanes is not delivered either
    return QueueStats(
        queue=keys.queue,
        lag=lag,
        pending=pending,
        delayed=execute("ZCARD", keys.delayed),
        dead=execute("XLEN", keys.dead),
        oldest_age=None if oldest is None else max(now_ms - oldest, 0) / 1000,
        workers=execute("ZCOUNT", keys.consumers, now_ms, "+inf"),
        paused=bool(execute("EXISTS", keys.paused)),
        parked=sum(parked(execute, keys).values()),
    )


def parked(execute: Execute, keys: QueueKeys) -> dict[str, int]:
    """How many messages wait for the rate limit of each task."""
    names = sorted(name.decode() for name in execute("SMEMBERS", keys.limited))
    return {name: execute("LLEN", keys.parked(name)) for name in names}


def last_delivered(execute: Execute, stream: bytes) -> bytes:
    """The id of the newest entry that was delivered from *stream*."""
    return _group(execute, stream)[1]


def _group(execute: Execute, stream: bytes) -> tuple[int, bytes]:
    """Pending count and last delivered id of the stream's group; a stream without group has delivered nothing."""
    for row in execute("XINFO", "GROUPS", stream):
        group = dict(zip(row[::2], row[1::2], strict=True))
        if group[b"name"] == GROUP:
            return group[b"pending"], group[b"last-delivered-id"]
    return 0, b"0-0"
