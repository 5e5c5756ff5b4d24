"""The read side: what is in Redis, for results, views and metrics. Workers never use it.

Every read is bounded; nothing here scans the key space.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from taskq.broker.keys import GROUP, Keys, QueueKeys
from taskq.broker.link.replies import is_wrongtype
from taskq.errors import BrokerError
from taskq.values.config import is_fifo
from taskq.values.durations import LATEST_MS
from taskq.values.message import DEFAULT_PRIORITY

MOST_DIGITS = 15
"""Of a number that one of ours wrote: a count, or milliseconds."""
R = TypeVar("R")
Execute = Callable[..., Any]
"""Runs one Redis command and returns its reply."""
Command = Sequence[Any]
Pipeline = Callable[[Sequence[Command]], list[Any]]
"""Runs several commands in one round trip and returns their replies; one that was refused is an exception in the
list. :meth:`taskq.broker.link.sync.SyncBroker.pipeline` is one."""


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


def of_our_types(execute: Execute) -> Execute:
    """*execute*, but that a key of another type than ours reads as an empty one: views show the rest."""

    def read(*command: Any, **limits: Any) -> Any:
        try:
            return execute(*command, **limits)
        except BrokerError as error:
            if is_wrongtype(error):
                return []
            raise

    return read


def names_of(members: Iterable[bytes]) -> list[str]:
    """*members* as text; what is not text was written by nobody of ours, and is skipped."""
    found = []
    for member in members:
        with contextlib.suppress(UnicodeDecodeError):
            found.append(member.decode())
    return found


def count_of(value: object) -> int:
    """*value* as the count or epoch milliseconds that one of ours wrote; 0 for what is neither."""
    if isinstance(value, int):
        return value
    text = value if isinstance(value, (bytes, str)) else b""
    return int(text) if text.isdigit() and len(text) <= MOST_DIGITS and int(text) <= LATEST_MS else 0


def table_of(reply: object) -> dict[bytes, bytes]:
    """What a reply that alternates names and values says; empty for a key of another type.

    Raises:
        BrokerError: it is one, for another reason.
    """
    if isinstance(reply, BrokerError) and not is_wrongtype(reply):
        raise reply
    return dict(zip(reply[::2], reply[1::2], strict=True)) if isinstance(reply, list) else {}


def check_levels(members: Iterable[bytes]) -> list[int]:
    """The priority levels among *members*; what else somebody wrote there is skipped."""
    return [int(level) for level in members if len(level) == 1 and level.isdigit()]


def has_workers(execute: Execute, keys: QueueKeys) -> bool:
    """Whether a worker has a lease of the queue, on Redis's clock.

    Raises:
        BrokerError: Redis could not be asked.
    """
    seconds, micros = execute("TIME")
    now = int(seconds) * 1000 + int(micros) // 1000
    return bool(execute("ZCOUNT", keys.consumers, f"({now}", "+inf"))


def queue_names(execute: Execute, keys: Keys) -> list[str]:
    """Every queue that was ever used in this namespace."""
    return sorted(names_of(of_our_types(execute)("SMEMBERS", keys.queues)))


def levels(execute: Execute, keys: QueueKeys) -> list[int]:
    """The priority levels in use, high to low."""
    extra = check_levels(of_our_types(execute)("SMEMBERS", keys.levels))
    return sorted({*extra, DEFAULT_PRIORITY}, reverse=True)


def parked(execute: Execute, keys: QueueKeys) -> dict[str, int]:
    """How many messages wait for the rate limit of each task."""
    read = of_our_types(execute)
    names = sorted(names_of(read("SMEMBERS", keys.limited)))
    return {name: count for name in names if (count := read("LLEN", keys.parked(name)))}


def holding(execute: Execute, keys: QueueKeys) -> list[str]:
    """The schedules that hold messages back until the ones before them have ended."""
    return sorted(names_of(of_our_types(execute)("SMEMBERS", keys.holding)))


def last_delivered(execute: Execute, stream: bytes) -> bytes:
    """The id of the newest entry that was delivered from *stream*; ``0-0`` without a group."""
    for row in of_our_types(execute)("XINFO", "GROUPS", stream):
        group = dict(zip(row[::2], row[1::2], strict=True))
        if group[b"name"] == GROUP:
            found: bytes = group[b"last-delivered-id"]
            return found
    return b"0-0"
