"""What the body of every benchmark task calls, in every queue's worker: a few writes into shared memory.

Standard library only, because it is imported in the environment of each rival. The file named by ``BENCH_TALLY``
is a header of 64 bytes (slots taken) and one slot of 64 bytes per thread that ever ran a task: started, ended,
first start and last end (ns on the machine's monotonic clock). A slot has one writer, so that no lock is needed.
"""

import fcntl
import mmap
import os
import struct
import threading
import time

REDIS_URL = os.environ.get("BENCH_REDIS_URL", "redis://127.0.0.1:6379/0")
"""The Redis of this run."""
RESULTS = os.environ.get("BENCH_RESULTS") == "1"
"""Whether results are stored."""

CELLS = 8
STARTED, ENDED, FIRST, LAST = range(4)
now = time.monotonic_ns


class _Slot(threading.local):
    """This thread's slot; taken when the thread runs its first task."""

    def __init__(self) -> None:
        with open(os.environ["BENCH_TALLY"], "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            view = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")
            view[0] += 1
            self.cells = view[view[0] * CELLS : (view[0] + 1) * CELLS]
            fcntl.flock(file, fcntl.LOCK_UN)  # not by closing: the mapping keeps a copy of the descriptor


_slot: "_Slot"
_latency = -1


def _forget() -> None:
    global _slot, _latency
    _slot, _latency = _Slot(), -1


if "BENCH_TALLY" in os.environ:
    _forget()
    os.register_at_fork(after_in_child=_forget)  # a forked child must not write into its parent's slot


def start() -> None:
    """A task begins."""
    cells = _slot.cells
    cells[STARTED] += 1
    if not cells[FIRST]:
        cells[FIRST] = now()


def end() -> int:
    """A task ends."""
    cells = _slot.cells
    cells[LAST] = now()
    cells[ENDED] += 1
    return 1


def hit() -> int:
    """The whole body of a no-op task."""
    cells = _slot.cells
    moment = now()
    cells[STARTED] += 1
    if not cells[FIRST]:
        cells[FIRST] = moment
    cells[LAST] = moment
    cells[ENDED] += 1
    return 1


def stamp(sent: int) -> int:
    """The body of a latency task: how long ago was it sent (``time.monotonic_ns()``)?"""
    global _latency
    took = now() - int(sent)
    if _latency < 0:
        _latency = os.open(os.environ["BENCH_TALLY"] + ".latency", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_latency, struct.pack("<q", took))
    return hit()
