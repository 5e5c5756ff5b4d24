"""The curves: for each size, the cost of one task in microseconds of wall time and of Redis's CPU time."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import processes
from benchmarks.bench import Bench
from benchmarks.contenders import HERE, Contender, Setup
from benchmarks.figures import Sample
from taskq import TaskQ
from taskq.broker.scripts import MAX_PER_CALL

ONE_KEY = 5_000
"""Messages of one ordering key in a sample: they run one by one."""
PREPARER = HERE / "scaling" / "prepare.py"


@dataclass(frozen=True, slots=True)
class Scale:
    """How far the study goes."""

    name: str
    backlog: tuple[int, ...]
    delayed: tuple[int, ...]
    pending: tuple[int, ...]
    keys: tuple[int, ...]
    workers: tuple[int, ...]
    payload: tuple[int, ...]
    run: int
    """Tasks of one sample, where the size is something else."""
    memory: int
    """Tasks over which a worker's memory is watched."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One thing that grows."""

    title: str
    axis: str
    sizes: Callable[[Scale], tuple[int, ...]]
    sample: Callable[[Study, int], Sample]
    flat: tuple[str, ...] = ("us", "redis_us")
    """The figures that must not change with the size."""
    bytes_each: int = 0
    """Memory of the machine for one more of it: Redis, its snapshot in the page cache, and a spare half."""


@dataclass(slots=True)
class Study:
    """The means of a study."""

    bench: Bench
    taskq: Contender
    scale: Scale

    def setup(self, name: str = "one") -> Setup:
        """One of taskq's setups."""
        return self.taskq.setups[name]

    def prepare(self, what: str, **options: int) -> None:
        """Fill Redis by ``prepare.py``, in a process of its own."""
        flags = [f"--{name}={value}" for name, value in options.items()]
        subprocess.run(
            [sys.executable, str(PREPARER), what, *flags],
            cwd=self.taskq.directory,
            env=self.taskq.environment(self.bench.server.url),
            check=True,
        )

    def fill(self, count: int, payload: int = 0) -> None:
        """*count* messages into the queue."""
        options: dict[str, Any] = {"task": "payload", "payload": payload} if payload else {"task": "noop"}
        page = 1000 if payload <= 1000 else 50
        self.taskq.produce(self.bench.server.url, "fill", count=count, page=page, **options)

    def drained(self, setup: Setup, count: int) -> Sample:
        """The cost of *count* tasks that Redis holds already, from a restored snapshot."""
        snapshot = self.bench.snapshot("scaling")
        self.bench.server.save(snapshot)
        self.bench.server.fresh(snapshot)
        with self.bench.workers(self.taskq, setup) as workers:
            return costs(workers.drain(count))


def costs(sample: Sample) -> Sample:
    """What a curve shows of a sample."""
    return {name: sample[name] for name in ("us", "cpu_us", "redis_us", "rate")}


def backlog(study: Study, size: int) -> Sample:
    """Drain a queue of *size*; one that is drained in an instant, again and again."""
    study.bench.server.fresh()
    if size <= MAX_PER_CALL:
        return bursts(study, size)
    study.fill(size)
    return study.drained(study.setup(), size)


def bursts(study: Study, size: int) -> Sample:
    """Give a warm worker *size* messages at one instant (one script call), again and again: the wall time only.

    Redis's and the worker's CPU time would count the sending and the waiting too, and not compare with other sizes.
    """
    app = TaskQ("bench", broker_url=study.bench.server.url)
    noop = app.task(name="noop")(lambda: None)
    rounds, seconds = max(study.scale.run // size, 1), 0.0
    with study.bench.workers(study.taskq, study.setup()) as running:
        for turn in range(1, rounds + 2):
            noop.delay_many([()] * size)
            sent = time.monotonic_ns()
            done = running.wait_for(size * turn)
            # from when they are in Redis: a worker that fetches all of them at once must not get the fetch for free
            seconds += (done.last - sent) / 1e9 if turn > 1 else 0  # the first turn waits for the worker to start
    app.close()
    return {"us": 1e6 * seconds / (size * rounds), "rate": size * rounds / seconds}


def delayed(study: Study, size: int) -> Sample:
    """Promote and run *size* delayed messages that are all due."""
    study.bench.server.fresh()
    study.prepare("delayed", count=size, seconds=-1)
    return study.drained(study.setup(), size)


def delayed_beside(study: Study, size: int) -> Sample:
    """Run ordinary messages while *size* delayed ones lie beside them that are not due."""
    study.bench.server.fresh()
    if size:
        study.prepare("delayed", count=size, seconds=86_400)
    study.fill(study.scale.run)
    return study.drained(study.setup(), study.scale.run)


def pending(study: Study, size: int) -> Sample:
    """Run messages while another worker holds *size* deliveries."""
    study.bench.server.fresh()
    if size:
        study.fill(size)
        study.prepare("pending", count=size)
    study.fill(study.scale.run)
    return study.drained(study.setup(), study.scale.run)


def keys(study: Study, size: int) -> Sample:
    """Run messages that share *size* ordering keys: with few keys most of them wait for one before them."""
    study.bench.server.fresh()
    count = max(min(study.scale.run, ONE_KEY * size), size)
    study.prepare("keyed", count=count, keys=size)
    return study.drained(study.setup(), count)


def workers(study: Study, size: int) -> Sample:
    """Run messages with *size* worker processes. Few cores bound the wall time; Redis's share must not grow."""
    study.bench.server.fresh()
    count = study.scale.run * 2
    study.fill(count)
    one = study.setup()
    return study.drained(replace(one, command=(*one.command, "-w", str(size))), count)


def payload(study: Study, size: int) -> Sample:
    """Run messages with an argument of *size* bytes."""
    study.bench.server.fresh()
    count = max(min(study.scale.run, 500_000_000 // size), 100)
    study.fill(count, payload=size)
    sample = study.drained(study.setup(), count)
    return sample | {"us_per_kb": sample["us"] / size * 1000}


def worker_memory(study: Study) -> list[dict[str, float]]:
    """Resident memory of one worker, at ten points on the way through many tasks, results on."""
    count, step = study.scale.memory, study.scale.memory // 10
    study.bench.server.fresh()
    study.fill(count)
    with study.bench.workers(study.taskq, study.setup()) as running:
        points = []
        for done in range(step, count + 1, step):
            running.wait_for(done)
            points.append({"tasks": done, "rss_mb": round(processes.resident_mb(running.pids()), 2)})
    return points


CURVES: dict[str, Curve] = {
    "backlog": Curve("messages in the queue", "messages", lambda s: s.backlog, backlog, bytes_each=600),
    "delayed": Curve("delayed messages, promoted and run", "messages", lambda s: s.delayed, delayed),
    "delayed_beside": Curve(
        "delayed messages beside those that run", "messages", lambda s: (0, *s.delayed), delayed_beside
    ),
    "pending": Curve("deliveries held by another worker", "deliveries", lambda s: s.pending, pending),
    "keys": Curve("ordering keys", "keys", lambda s: s.keys, keys, bytes_each=2_000),
    "workers": Curve("worker processes", "processes", lambda s: s.workers, workers, flat=("redis_us",)),
    "payload": Curve("bytes of the argument", "bytes", lambda s: s.payload, payload),
}
