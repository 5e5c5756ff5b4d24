"""Redis memory: bytes per queued task with a 100-byte argument, and what its tasks leave when all have run.

What is left is counted after the worker has stopped in good order, and compared with what a run of a few tasks
leaves: names of queues and empty streams stay whatever the number of tasks, and are reported apart.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.bench import Bench, Trial
from benchmarks.contenders import Contender, Setup
from benchmarks.figures import Sample
from benchmarks.measures.throughput import command_line

ARGUMENT = 100
FEW = 20
GRACE = 15.0
"""Seconds a worker may take to stop."""


def trials(bench: Bench) -> Iterator[Trial]:
    """Each queue."""
    for contender in bench.contenders:
        for setup in contender.setups_for("memory"):
            yield contender_trial(bench, contender, setup)


def contender_trial(bench: Bench, contender: Contender, setup: Setup) -> Trial:
    """One setup of one queue."""
    about: dict[str, object] = {"count": bench.sizes.memory_count}

    def take() -> Sample:
        _, fixed_bytes, fixed_keys, about["fixed"] = drained(bench, contender, setup, FEW)
        queued, left_bytes, left_keys, about["left"] = drained(bench, contender, setup, bench.sizes.memory_count)
        return {
            "bytes_per_task": queued,
            "left_bytes": max(left_bytes - fixed_bytes, 0),
            "left_keys": max(left_keys - fixed_keys, 0),
            "fixed_bytes": fixed_bytes,
            "fixed_keys": fixed_keys,
        }

    return Trial(f"{contender.name}/{setup.name}", command_line(setup), take, about=about)


def drained(bench: Bench, contender: Contender, setup: Setup, count: int) -> tuple[float, int, int, list[str]]:
    """Bytes per task while *count* are queued; then bytes, number and some names of the keys left when all ran."""
    server = bench.server
    server.fresh()
    contender.produce(server.url, "fill", task=f"{setup.tasks}payload", count=FEW, page=FEW, payload=ARGUMENT)
    before = server.memory()
    page = min(contender.page, count)
    contender.produce(server.url, "fill", task=f"{setup.tasks}payload", count=count, page=page, payload=ARGUMENT)
    queued = (server.memory() - before) / count
    with bench.workers(contender, setup, grace=GRACE) as workers:
        workers.wait_for(count + FEW)
        time.sleep(0.5)
    keys = server.client.keys("*")
    used = sum(server.client.memory_usage(key, samples=0) or 0 for key in keys)
    shown = sorted({without_numbers(key.decode(errors="replace")) for key in keys[:1000]})
    return queued, used, len(keys), shown[:20]


def without_numbers(key: str) -> str:
    """*key* with every long hexadecimal part left out, so that the keys of many tasks show as one."""
    return "-".join(
        "*" if len(part) > 11 and all(c in "0123456789abcdef" for c in part) else part for part in key.split("-")
    )
