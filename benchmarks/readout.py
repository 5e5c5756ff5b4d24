"""The harness's side of the tally: reads what the tasks wrote (see ``probe/tally.py`` for the form)."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import NamedTuple

CELLS, SLOTS = 8, 4096


class Count(NamedTuple):
    """The sum over all threads of all workers."""

    started: int
    ended: int
    first: int
    """When the first task started, ns; 0 before."""
    last: int
    """When the last task ended, ns."""

    @property
    def seconds(self) -> float:
        """From the first start to the last end."""
        return (self.last - self.first) / 1e9


class Readout:
    """A tally file. Made by the harness before the workers start."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._latencies = path.with_name(path.name + ".latency")
        with path.open("wb") as file:
            file.truncate(8 * CELLS * (SLOTS + 1))
        self._latencies.unlink(missing_ok=True)
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    def count(self) -> Count:
        """What was counted up to now."""
        taken = struct.unpack_from("<q", self._memory)[0]
        slots = [struct.unpack_from("<4q", self._memory, 8 * CELLS * (n + 1)) for n in range(taken)]
        return Count(
            sum(slot[0] for slot in slots),
            sum(slot[1] for slot in slots),
            min((slot[2] for slot in slots if slot[2]), default=0),
            max((slot[3] for slot in slots), default=0),
        )

    def latencies_ms(self) -> list[float]:
        """What ``stamp`` tasks measured."""
        if not self._latencies.exists():
            return []
        return [took / 1e6 for (took,) in struct.iter_unpack("<q", self._latencies.read_bytes())]
