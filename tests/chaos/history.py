"""The history: what clients asked for and what task bodies did, written where no Redis can lose it.

Every process appends to a file of its own, one ``write(2)`` for each record, so that SIGKILL cannot take back what
was written. Times are ``CLOCK_MONOTONIC``, which all processes of a machine share. Task number and time come first
and big-endian, so that sorting the raw bytes sorts by task, then by time.
"""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Iterable, Iterator
from enum import IntEnum
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

_RECORD = struct.Struct(">QQBBHIIQ")
SIZE = _RECORD.size

TICKS = 1 << 62
"""Task numbers from here on are fire times: ``TICKS`` plus epoch milliseconds."""
NOBODY = (1 << 64) - 1
"""The task number of records that belong to a process, not to a task."""


class Kind(IntEnum):
    """What happened."""

    INVOKE = 1
    """A client is about to send. flag: :class:`Expect`; attempt: the most attempts; run: not before (ns), or 0."""
    OK = 2
    """``.delay()`` returned: accepted."""
    INFO = 3
    """``.delay()`` raised: accepted or not, nobody knows."""
    FAIL = 4
    """``.delay()`` raised an error that says: not accepted."""
    BEGIN = 5
    """First line of the task body. flag 1: the arguments are not the ones that were sent."""
    END = 6
    """Last line of the task body. flag 0: it returns its run as its result; 1: it raises."""
    LEASE_LOST = 7
    """A worker was told that its lease is lost."""


class Expect(IntEnum):
    """How a task must end."""

    SUCCESS = 0
    FAILURE = 1
    POISON = 2
    """It kills whatever runs it: FAILURE, because of crashes."""


class Record(NamedTuple):
    """One line of history."""

    task: int
    at: int
    """Nanoseconds, monotonic."""
    kind: int
    flag: int = 0
    attempt: int = 0
    pid: int = 0
    owner: int = 0
    """The worker process, where ``pid`` is a child of its pool; else the same."""
    run: int = 0
    """A number of this one run of the task."""


class Writer:
    """Appends records to one file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._pid = os.getpid()

    def write(self, kind: Kind, task: int, *, flag: int = 0, attempt: int = 0, owner: int = 0, run: int = 0) -> None:
        """Append one record, stamped now."""
        at = time.monotonic_ns()
        os.write(self._file, _RECORD.pack(task, at, kind, flag, attempt, self._pid, owner or self._pid, run))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def pack(record: Record) -> bytes:
    """The written form."""
    return _RECORD.pack(*record)


def unpack(data: bytes) -> Record:
    """The record in *data*."""
    return Record._make(_RECORD.unpack(data))


def read_sorted(folder: Path) -> list[bytes]:
    """Every record of the history files in *folder*, by task and time, still packed."""
    found: list[bytes] = []
    for path in folder.glob("*.hist"):
        found += _split(path.read_bytes())
    found.sort()
    return found


def read_one(path: Path) -> Iterator[Record]:
    """The records of one file, as they were written."""
    return map(unpack, _split(path.read_bytes()))


def _split(data: bytes) -> list[bytes]:
    whole = len(data) - len(data) % SIZE
    return [data[at : at + SIZE] for at in range(0, whole, SIZE)]


def by_task(packed: Iterable[bytes]) -> Iterator[tuple[int, list[Record]]]:
    """The records of each task."""
    for task, group in groupby(packed, key=lambda record: record[:8]):
        yield int.from_bytes(task), [unpack(record) for record in group]


class Fault(NamedTuple):
    """One thing that was done to the system."""

    kind: str
    begin: int
    end: int
    """Nanoseconds, monotonic; for a kill the moment at which the process was reaped."""
    pid: int = 0
    note: str = ""


class FaultLog:
    """The faults as they happened, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.faults: list[Fault] = []

    def add(self, kind: str, begin: int, *, pid: int = 0, note: str = "") -> Fault:
        """Note a fault that began at *begin* and has just ended."""
        fault = Fault(kind, begin, time.monotonic_ns(), pid, note)
        self.faults.append(fault)
        os.write(self._file, json.dumps(fault._asdict()).encode() + b"\n")
        return fault

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read_faults(path: Path) -> list[Fault]:
    """What a :class:`FaultLog` wrote."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    return [Fault(**row) for row in rows]
