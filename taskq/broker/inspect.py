"""The read side: what is in Redis, for results, views and metrics. Workers never use it.

Every read is bounded; nothing here scans the key space.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from taskq.broker.keys import GROUP, Keys, QueueKeys
from taskq.config import is_fifo
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

    @property
    def needs_workers(self) -> bool:
        """Whether something is wrong without workers: the consumers of a FIFO may come and go."""
        return not is_fifo(self.queue)


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


def parked(execute: Execute, keys: QueueKeys) -> dict[str, int]:
    """How many messages wait for the rate limit of each task."""
    names = sorted(name.decode() for name in execute("SMEMBERS", keys.limited))
    return {name: execute("LLEN", keys.parked(name)) for name in names}


def last_delivered(execute: Execute, stream: bytes) -> bytes:
    """The id of the newest entry that was delivered from *stream*; ``0-0`` without a group."""
    for row in execute("XINFO", "GROUPS", stream):
        group = dict(zip(row[::2], row[1::2], strict=True))
        if group[b"name"] == GROUP:
            found: bytes = group[b"last-delivered-id"]
            return found
    return b"0-0"
