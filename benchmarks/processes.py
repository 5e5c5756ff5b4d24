"""What a group of processes uses, read from ``/proc`` (Linux)."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def of_sessions(sessions: Iterable[int]) -> list[int]:
    """The processes of these sessions, zombies left out."""
    wanted, found = set(sessions), []
    for entry in Path("/proc").iterdir():
        if (
            entry.name.isdigit()
            and (fields := _stat(int(entry.name)))
            and int(fields[3]) in wanted
            and fields[0] != "Z"
        ):
            found.append(int(entry.name))
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of these processes and of their children that ended; in steps of a clock tick (10 ms)."""
    return sum(sum(int(ticks) for ticks in fields[11:15]) for pid in pids if (fields := _stat(pid))) / _TICKS


def precise_cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of the living threads of these processes, to the nanosecond: for processes that hardly run."""
    if not Path("/proc/self/schedstat").exists():
        return cpu_seconds(pids)
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for thread in list(Path(f"/proc/{pid}/task").iterdir()):
                with contextlib.suppress(OSError):  # it has ended: never a reason to change to another clock
                    total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def resident_mb(pids: Iterable[int]) -> float:
    """Sum of the resident memory of these processes, in MB (shared pages count in each)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1])
    return total / 1024


def end_sessions(sessions: Iterable[int], grace: float) -> None:
    """Ask the processes of these sessions to end (SIGTERM to the leaders), and kill what is left after *grace*."""
    sessions = list(sessions)
    for leader in sessions:
        with contextlib.suppress(ProcessLookupError):
            os.kill(leader, signal.SIGTERM)
    limit = time.monotonic() + grace
    while (left := of_sessions(sessions)) and time.monotonic() < limit:
        time.sleep(0.02)
    while left:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
        left = of_sessions(sessions)


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/<pid>/stat`` from the state on; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
