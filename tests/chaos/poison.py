"""Poison as a part of the load: what do messages that kill their process cost all others?

The same tasks are run twice on a full queue, first alone, then with poison among them, and the rates of the others
are compared. Poison kills its process in one of three ways in turn: ``os._exit``, SIGSEGV, and memory, for which the
kernel's out-of-memory killer comes (in a memory cgroup, where one can be made).
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .checker import MAX_CRASHES, Facts, Judgement, Verdict, judge
from .cluster import Cluster
from .history import Expect, Kind, Record, unpack
from .scenarios import Stage

POOLS = {
    "processes": ("-P", "processes", "-c", "4"),
    "threads": ("-w", "2", "-c", "4"),
}
"""Worker flags: a pool of children, and two supervised processes with threads."""
MEASURED = 0.9
"""The share of the others over which their rate is measured: at the end there is no full queue any more."""
MEMORY_LIMIT = 32 << 20


@dataclass(frozen=True)
class Pass:
    """One time that the load was run."""

    rate: float
    """Tasks per second that are no poison."""
    last: float
    """Seconds until the last of them had ended."""
    judgement: Judgement
    deaths: int
    """Processes that were killed by poison."""
    dead_letters: Counter[int]
    """Poison in the dead letter queue, by the number of its crashes."""
    charged: int
    """Others that were charged with a crash."""


@dataclass(frozen=True)
class Comparison:
    """A load without and with poison."""

    pool: str
    tasks: int
    poison: int
    seconds: float
    clean: Pass
    poisoned: Pass

    @property
    def share(self) -> float:
        """The others' rate, as a part of the clean one."""
        return self.poisoned.rate / self.clean.rate

    @property
    def contained(self) -> bool:
        """Whether all poison, and nothing else, was given up after ``max_crashes``; and no other check objects.

        In the processes pool nobody else may be charged. Where poison kills whole workers, a neighbour that runs as a
        suspect of the death before may be, once.
        """
        valid = self.clean.judgement.verdict is self.poisoned.judgement.verdict is Verdict.VALID
        innocent = not self.poisoned.charged or self.pool == "threads"
        return valid and innocent and self.poisoned.dead_letters == {MAX_CRASHES: self.poison}

    def row(self) -> str:
        """For the table of the documentation."""
        clean, with_poison = self.clean, self.poisoned
        return (
            f"| {self.pool} | {self.seconds * 1000:g} | {self.tasks} | {self.poison} | {clean.rate:.0f} "
            f"| {with_poison.rate:.0f} | {100 * self.share:.0f} % | {with_poison.last:.1f} | {with_poison.deaths} "
            f"| {sum(with_poison.dead_letters.values())} | {with_poison.charged} |"
        )


HEADER = (
    "| pool | task, ms | tasks | poison | clean, tasks/s | with poison | share | last ended after, s "
    "| deaths | dead letters | others charged |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def compare(
    folder: Path, pool: str, tasks: int, seconds: float, percent: float = 1.0, lease: float = 15.0
) -> Comparison:
    """Run the load without and with poison.

    Args:
        folder: for everything that is recorded.
        pool: of :data:`POOLS`.
        tasks: how many others there are.
        seconds: how long each of them takes.
        percent: how much of the load is poison.
        lease: ``lease_timeout`` of the workers.
    """
    every = round(100 / percent)
    with memory_group() as group:
        passes = [
            _pass(folder / name, pool, tasks, seconds, step, lease, group)
            for name, step in (("clean", 0), ("poisoned", every))
        ]
    return Comparison(pool, tasks, tasks // every, seconds, *passes)


def _pass(folder: Path, pool: str, tasks: int, seconds: float, every: int, lease: float, group: str) -> Pass:
    with Cluster(folder, lease=lease, proxied=False) as cluster:
        stage = Stage(cluster)
        for number in range(1, tasks + 1):
            stage.send(1, sleep=seconds)
            if every and number % every == 0:
                stage.send(1, "poison", expect=Expect.POISON)
        worker = cluster.worker(*POOLS[pool], env={"CHAOS_CGROUP": group})
        stage.workers.append(worker)
        stuck = cluster.drain(tasks * seconds + 4 * lease + 120)
        cluster.stop(stage.workers)
        stage.close()
        return _read(stage.facts(stuck))


def _read(facts: Facts) -> Pass:
    records = [unpack(packed) for packed in facts.packed]
    poison = {record.task for record in records if record.flag == Expect.POISON and record.kind == Kind.INVOKE}
    others = [record for record in records if record.task not in poison]
    begin = min(record.at for record in others if record.kind == Kind.BEGIN)
    ends = _first_ends(others)
    measured = ends[: int(len(ends) * MEASURED)]
    letters = Counter(dead.crashes for found in facts.log.dead.values() for dead in found if dead.reason == "crashed")
    charged = sum(facts.log.tasks[task_id][0] != "poison" for task_id in facts.log.charged)
    return Pass(
        rate=len(measured) / (measured[-1] - begin) * 1e9,
        last=(ends[-1] - begin) / 1e9,
        judgement=judge(facts),
        deaths=sum(record.kind == Kind.BEGIN and record.task in poison for record in records),
        dead_letters=letters,
        charged=charged,
    )


def _first_ends(records: list[Record]) -> list[int]:
    """When each task had ended for the first time, in order."""
    found: dict[int, int] = {}
    for record in records:
        if record.kind == Kind.END:
            found[record.task] = min(record.at, found.get(record.task, record.at))
    return sorted(found.values())


@contextlib.contextmanager
def memory_group() -> Iterator[str]:
    """A memory cgroup for processes to die in; empty where none can be made."""
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(root, f"taskq-chaos-{os.getpid()}")
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(MEMORY_LIMIT))
        except OSError:
            group.rmdir()
            continue
        try:
            yield str(group)
        finally:
            with contextlib.suppress(OSError):
                group.rmdir()
        return
    yield ""
