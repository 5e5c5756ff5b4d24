"""No-op tasks per second: the queue is full before the worker starts.

N / (end of the last task - start of the first), as the tasks themselves saw it. N is sized by the rate that is
expected; every sample starts from the same snapshot of a full queue, on a new Redis.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from benchmarks.bench import Bench, Trial
from benchmarks.contenders import Contender, Setup
from benchmarks.figures import Sample

BARE = {
    "loop_json": ("fill_json", 110_000),
    "loop_msgpack": ("fill_msgpack", 140_000),
    "loop_results": ("fill_msgpack", 45_000),
    "loop_asyncio": ("fill_json", 75_000),
    "loop_uvloop": ("fill_msgpack", 110_000),
}
"""What fills the stream for each loop, and the messages per second to expect."""


def trials(bench: Bench) -> Iterator[Trial]:
    """The bare loops, then every setup with results off and on."""
    if bench.bare:
        for loop, (fill, rate) in BARE.items():
            yield bare_trial(bench, loop, fill, count_for(bench, rate))
    for contender in bench.contenders:
        for setup in contender.setups_for("throughput"):
            for results in setup.results:
                yield contender_trial(bench, contender, setup, results)


def count_for(bench: Bench, rate: float) -> int:
    """How many tasks one sample takes."""
    return max(int(rate * bench.sizes.throughput_seconds), 100)


def bare_trial(bench: Bench, loop: str, fill: str, count: int) -> Trial:
    """One of the bare loops."""
    name = f"bare/{loop}"
    about: dict[str, object] = {"count": count, "processes": 1}

    def prepare() -> None:
        bench.server.fresh()
        about.update(bench.run_bare(fill, count)[0])
        bench.server.save(bench.snapshot(name))

    def take() -> Sample:
        bench.server.fresh(bench.snapshot(name))
        redis_cpu = bench.server.cpu_seconds()
        done = bench.run_bare(loop, count)[1].count()
        redis_us = 1e6 * (bench.server.cpu_seconds() - redis_cpu) / count
        return {"rate": done.ended / done.seconds, "us": 1e6 * done.seconds / done.ended, "redis_us": redis_us}

    return Trial(name, f"probe/bare.py {loop} {count}", take, prepare, about)


def contender_trial(bench: Bench, contender: Contender, setup: Setup, results: bool) -> Trial:
    """One setup of one queue."""
    name = f"{contender.name}/{setup.name}/{'results' if results else 'plain'}"
    count = count_for(bench, setup.rate)

    def prepare() -> None:
        bench.server.fresh()
        task = f"{setup.tasks}noop"
        contender.produce(bench.server.url, "fill", results=results, task=task, count=count, page=contender.page)
        bench.server.save(bench.snapshot(name))

    def take() -> Sample:
        bench.server.fresh(bench.snapshot(name))
        with bench.workers(contender, setup, results=results) as workers:
            return workers.drain(count)

    about = {"count": count, "processes": setup.processes, "results": results}
    return Trial(name, command_line(setup), take, prepare, about)


def command_line(setup: Setup) -> str:
    """How a setup's worker is started, for the reader: no path of this machine."""
    places = {"python": "python", "bin": ".", "url": "redis://...", "copy": "N"}
    line = shlex.join(part.format(**places) for part in setup.command).replace("./", "")
    settings = " ".join(f"{name}={value}" for name, value in setup.env.items())
    return " ".join(filter(None, [settings, line])) + (f"  (x {setup.copies})" if setup.copies > 1 else "")
