"""What each worker says of itself, for views: ``ns:worker:<name>``, one value with a time to live per worker process.

A worker writes its record every lease, and every two seconds while what it runs changes. Whether it lives is not
told by the record but by its leases in ``ns:{q}:consumers``: :func:`read_workers` puts both together, and is what
the dashboard, ``taskq workers``, ``taskq top`` and ``taskq doctor`` use.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from taskq.broker.keys import Keys
from taskq.broker.views.inspect import Command, Execute, Pipeline, run_steps
from taskq.values.config import is_fifo

MOST_WORKERS = 1000
"""Workers of one queue that are looked at, at most."""
MOST_RUNNING = 20
"""Running tasks that a record names, at most."""
RECENT_LEASES = 3
"""How many leases after its last writing a record counts in sums."""
KEPT = 6 * 3600.0
"""Seconds for which the record of a worker that died can be looked at; one that stops takes its record along."""


class Running(msgspec.Struct, omit_defaults=True):
    """One run that was under way when the record was written."""

    task: str
    id: str
    queue: str
    started_at: int
    """Epoch milliseconds, by the worker's clock."""
    attempt: int = 1


class WorkerRecord(msgspec.Struct, omit_defaults=True):
    """What a worker process says of itself. Unknown fields are ignored, so releases may differ."""

    app: str
    host: str
    pid: int
    version: str
    """Of taskq."""
    python: str
    pool: str
    queues: list[str]
    started_at: int
    """Epoch milliseconds, by the worker's clock; so is ``written_at``."""
    written_at: int
    lease_ms: int
    slots: int = 0
    """For sync tasks; 0 where the app has none."""
    async_slots: int = 0
    busy: int = 0
    """Runs under way."""
    busy_by_queue: dict[str, int] = {}
    held: int = 0
    """Deliveries fetched and not settled, running ones included."""
    rss: int = 0
    """Resident bytes, child processes included."""
    processed: int = 0
    """Deliveries that left their queue here since the start."""
    failed: int = 0
    running: list[Running] = []
    """The first :data:`MOST_RUNNING` of what runs."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(WorkerRecord).decode


@dataclass(slots=True)
class WorkerInfo:
    """One worker process as Redis knows it."""

    name: str
    """Its consumer name: ``host:pid:random``."""
    queues: list[str] = field(default_factory=list)
    """Where it has, or had, a lease."""
    lease_left: float = 0.0
    """Seconds until its first lease runs out; 0 or less: it is late, and its messages will be taken over."""
    heartbeat_age: float | None = None
    """Seconds since it last renewed that lease; None without a record."""
    record: WorkerRecord | None = None
    """None where it has not written yet, or died and its record has expired."""

    @property
    def alive(self) -> bool:
        """Whether all its leases stand."""
        return self.lease_left > 0

    @property
    def recent(self) -> WorkerRecord | None:
        """Its record, for sums; None where there is none, or only the last words of one that died a while ago."""
        if self.record is None or (self.heartbeat_age or 0.0) > RECENT_LEASES * self.record.lease_ms / 1000:
            return None
        return self.record


def pack_record(record: WorkerRecord) -> bytes:
    """The stored form of *record*."""
    return _encode(record)


def read_workers(pipeline: Pipeline, keys: Keys, queues: Sequence[str]) -> list[WorkerInfo]:
    """Every worker with a lease on one of *queues*, sorted by name; two round trips.

    Raises:
        BrokerError: Redis could not be reached.
    """
    return run_steps(read_steps(keys, queues), pipeline)


def read_last_words(execute: Execute, keys: Keys, name: str) -> WorkerInfo | None:
    """What a worker without a lease said last: it died, and its messages were taken over. None: nothing is kept.

    Raises:
        BrokerError: Redis could not be reached.
    """
    workers = {name: WorkerInfo(name)}
    _add_records(workers, [execute("GET", keys.worker(name.encode()))])
    return workers[name] if workers[name].record is not None else None


def read_steps(keys: Keys, queues: Sequence[str]) -> Generator[Sequence[Command], list[Any], list[WorkerInfo]]:
    """:func:`read_workers` in steps; see :func:`taskq.broker.views.inspect.run_steps`."""
    queues = [name for name in queues if not is_fifo(name)]  # a consumer of a FIFO is no worker
    consumers = [keys.queue(name).consumers for name in queues]
    time, *rows = yield [("TIME",), *(("ZRANGE", key, -MOST_WORKERS, -1, "WITHSCORES") for key in consumers)]
    workers = _leases(queues, rows, int(time[0]) * 1000 + int(time[1]) // 1000)
    if workers:
        (stored,) = yield [("MGET", *(keys.worker(name.encode()) for name in workers))]
        _add_records(workers, stored)
    return list(workers.values())


def _leases(queues: Sequence[str], rows: Sequence[object], now_ms: int) -> dict[str, WorkerInfo]:
    """Name -> worker, from the ``consumers`` of each queue (``ZRANGE ... WITHSCORES``), sorted by name."""
    found: dict[str, WorkerInfo] = {}
    for queue, row in zip(queues, rows, strict=True):
        if not isinstance(row, list):
            continue
        for member, score in zip(row[::2], row[1::2], strict=True):
            name = member.decode(errors="replace")
            if name.startswith("!"):  # and a digit: its deliveries are being taken over
                name = name[2:]
            left = (float(score) - now_ms) / 1000
            worker = found.setdefault(name, WorkerInfo(name, [], left))
            worker.queues.append(queue)
            worker.lease_left = min(worker.lease_left, left)
    return dict(sorted(found.items()))


def _add_records(workers: dict[str, WorkerInfo], stored: object) -> None:
    """A record that cannot be read is left out."""
    if not isinstance(stored, list):
        return  # refused
    for worker, data in zip(workers.values(), stored, strict=True):
        if data is None:
            continue
        try:
            worker.record = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        worker.heartbeat_age = max(worker.record.lease_ms / 1000 - worker.lease_left, 0.0)
