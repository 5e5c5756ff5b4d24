"""What the workers of a queue have ended: totals per task, and sums per minute of the last two hours.

Workers add to them every few seconds while they are busy (``lua/count.lua``), so that views have throughput,
failures and mean times without a metrics server. For views only: nothing decides by them.

Readers use :func:`read_totals` and :func:`read_history`; :func:`rate` makes a rate of a history.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from taskq.broker.keys import QueueKeys
from taskq.broker.views.inspect import Pipeline, count_of

HISTORY_MINUTES = 120
TOTALS_TTL_MS = 90 * 86_400_000
HISTORY_TTL_MS = (HISTORY_MINUTES + 1) * 60_000
LIVES = (TOTALS_TTL_MS, HISTORY_TTL_MS, HISTORY_MINUTES)
"""How long totals and a history live without news, and how long a history is."""
RUNTIME = "ms"
"""The totals' field of a task's runtimes: ``ms:<task>``. All others are ``<state>:<task>``."""
HANDED_BACK = "RELEASED"
"""The one state of a delivery that leaves its message in the queue."""


class Sums(NamedTuple):
    """What happened in one minute, in the order in which the history keeps it."""

    ended: int = 0
    """Deliveries that left the queue: in any state but RELEASED."""
    failed: int = 0
    retried: int = 0
    runtime_ms: int = 0
    waits: int = 0
    """How many waits were looked at: one of each batch."""
    wait_ms: int = 0
    """Their sum, from birth in the queue to start."""


class Minute(NamedTuple):
    """One minute of a history."""

    start: int
    """Epoch seconds, on Redis's clock."""
    sums: Sums


@dataclass(slots=True)
class TaskTotals:
    """One task in one queue."""

    states: dict[str, int] = field(default_factory=dict)
    """Deliveries that ended, by state: SUCCESS, FAILURE, RETRY, REVOKED, EXPIRED, SKIPPED, RELEASED."""
    runtime: float = 0.0
    """Seconds that all runs took together."""

    @property
    def runs(self) -> int:
        """How many runs the runtime is of."""
        return sum(self.states.get(state, 0) for state in ("SUCCESS", "FAILURE", "RETRY"))


def read_totals(pipeline: Pipeline, queues: Sequence[QueueKeys]) -> dict[str, dict[str, TaskTotals]]:
    """Queue -> task -> what ended of it, since counting began (at most 90 days after the last one ended)."""
    replies = pipeline([("HGETALL", keys.totals) for keys in queues])
    return {keys.queue: _tasks(reply) for keys, reply in zip(queues, replies, strict=True)}


def read_history(pipeline: Pipeline, queues: Sequence[QueueKeys]) -> dict[str, list[Minute]]:
    """Queue -> its last two hours, minute by minute, oldest first; minutes without anything are left out."""
    seconds, *replies = pipeline([("TIME",), *(("HVALS", keys.history) for keys in queues)])
    oldest = int(seconds[0]) // 60 - HISTORY_MINUTES
    return {
        keys.queue: sorted(minute for minute in minutes_of(reply) if minute.start // 60 > oldest)
        for keys, reply in zip(queues, replies, strict=True)
    }


def minutes_of(rows: object) -> list[Minute]:
    """The minutes in the values of a history; what cannot be read is left out."""
    found = []
    for row in rows if isinstance(rows, list) else ():
        numbers = [count_of(part) for part in (row or b"").split() if part.isdigit()]
        if len(numbers) > len(Sums._fields):
            found.append(Minute(numbers[0] * 60, Sums(*numbers[1 : 1 + len(Sums._fields)])))
    return found


def rate(minutes: Iterable[Minute], now: float) -> Sums | None:
    """The sums of the last complete minute and of the present one; None if there was nothing."""
    recent = [minute.sums for minute in minutes if minute.start // 60 >= int(now) // 60 - 1]
    return Sums(*(sum(column) for column in zip(*recent, strict=True))) if recent else None


def per_second(minutes: Iterable[Minute], now: float) -> float:
    """How many deliveries ended per second over the last one to two minutes.

    Args:
        minutes: of a history.
        now: epoch seconds on Redis's clock.
    """
    sums = rate(minutes, now)
    return sums.ended / (60 + now % 60) if sums else 0.0


def _tasks(reply: object) -> dict[str, TaskTotals]:
    found: dict[str, TaskTotals] = {}
    for name, value in _pairs(reply).items():
        kind, _, task = name.partition(":")
        totals = found.setdefault(task, TaskTotals())
        if kind == RUNTIME:
            totals.runtime = value / 1000
        else:
            totals.states[kind] = value
    return found


def _pairs(reply: object) -> Mapping[str, int]:
    if not isinstance(reply, list):
        return {}
    pairs = zip(reply[::2], reply[1::2], strict=True)
    return {name.decode(errors="replace"): count_of(value) for name, value in pairs}
