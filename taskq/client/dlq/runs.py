"""The record of a replay: who, what, how many came back, and how those ended.

It is one hash per queue. The replay script counts in it what it puts back, the settle script how each of them ends,
both by fingerprint, so that the numbers hold even if a process dies in between.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from taskq.broker import scripts
from taskq.broker.keys import QueueKeys
from taskq.broker.link.sync import SyncBroker
from taskq.broker.views.inspect import names_of, of_our_types
from taskq.values.durations import moment

KEPT = 100
"""How many records are kept for each queue."""
RUNNING, DONE, STOPPED, UNDECIDED = "running", "done", "stopped", "undecided"


@dataclass(slots=True)
class Tally:
    """What became of the messages of one run, or of one fingerprint of it."""

    replayed: int = 0
    succeeded: int = 0
    again: int = 0
    """Failed for good with the same fingerprint."""
    failed: int = 0
    """Failed for good in another way."""
    other: int = 0
    """Revoked, expired or skipped."""

    @property
    def ended(self) -> int:
        """How many have ended."""
        return self.succeeded + self.again + self.failed + self.other


@dataclass(frozen=True, slots=True)
class Run:
    """One replay in one queue."""

    id: str
    queue: str
    actor: str
    where: str
    """Which dead letters were meant, in words."""
    to: str
    """The queue that they went to; empty for their own."""
    state: str
    """``running``; ``done``; ``stopped``: by a person, or because a canary failed again; ``undecided``: a canary
    had not ended in time, so others of its kind stayed."""
    started_at: datetime
    seen_at: datetime
    """When it last did something: a run that was killed stays ``running``."""
    total: Tally
    by_fingerprint: dict[str, Tally] = field(default_factory=dict)


class Runs:
    """The records of one queue.

    Args:
        broker: runs the commands.
        keys: of the queue.
    """

    def __init__(self, broker: SyncBroker, keys: QueueKeys) -> None:
        self._execute = broker.execute
        self._run = broker.run
        self._keys = keys

    def begin(self, run: str, actor: str, where: str, to: str = "") -> None:
        """Write down a run that begins; harmless when it has begun before."""
        now = _now_ms()
        about = ("actor", actor, "where", where, "to", to, "state", RUNNING, "started", now, "seen", now)
        self._run(scripts.begin(self._keys, run, now, KEPT, about))

    def note(self, run: str, **fields: str | int) -> None:
        """Write down what changed."""
        flat = [part for pair in fields.items() for part in pair]
        self._execute("HSET", self._keys.dead_run(run), "seen", _now_ms(), *flat)

    def fields(self, run: str) -> dict[str, str]:
        """The raw record; empty when there is none."""
        flat = of_our_types(self._execute)("HGETALL", self._keys.dead_run(run))
        return {
            name.decode(): value.decode("utf-8", "replace") for name, value in zip(flat[::2], flat[1::2], strict=True)
        }

    def replayed(self, run: str) -> int:
        """How many it has put back so far."""
        return tallies(self.fields(run))[0].replayed

    def latest(self, limit: int = KEPT) -> list[str]:
        """The ids of the latest runs, newest first."""
        return names_of(of_our_types(self._execute)("ZREVRANGE", self._keys.dead_runs, 0, limit - 1))


def read_runs(broker: SyncBroker, of: Sequence[QueueKeys], endings: dict[str, QueueKeys], limit: int) -> list[Run]:
    """The latest runs of some queues, newest first.

    Args:
        broker: runs the commands.
        of: the queues.
        endings: every known queue by name, for runs that sent their messages to another one.
        limit: most to return.
    """
    found = []
    for keys in of:
        runs = Runs(broker, keys)
        for run in runs.latest(limit):
            record = runs.fields(run)
            if "started" not in record:
                continue  # its time is over, or it belongs to another queue's run
            if (target := endings.get(record.get("to", ""))) is not None and target is not keys:
                record |= {
                    name: value
                    for name, value in Runs(broker, target).fields(run).items()
                    if ":" in name and not name.startswith("replayed:")
                }
            total, by_fingerprint = tallies(record)
            found.append(
                Run(
                    run,
                    keys.queue,
                    record.get("actor", ""),
                    record.get("where", ""),
                    record.get("to", ""),
                    record.get("state", RUNNING),
                    _when(record["started"]),
                    _when(record.get("seen", record["started"])),
                    total,
                    by_fingerprint,
                )
            )
    return sorted(found, key=lambda run: run.started_at, reverse=True)[:limit]


def tallies(record: dict[str, str]) -> tuple[Tally, dict[str, Tally]]:
    """The numbers in a raw record: all together, and by fingerprint."""
    total = Tally()
    by_fingerprint: dict[str, Tally] = {}
    for name, value in record.items():
        kind, colon, fingerprint = name.partition(":")
        if not colon or kind not in Tally.__slots__:
            continue
        tally = by_fingerprint.setdefault(fingerprint, Tally())
        for each in (total, tally):
            setattr(each, kind, getattr(each, kind) + int(value))
    return total, by_fingerprint


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _when(ms: str) -> datetime:
    return moment(int(ms))
