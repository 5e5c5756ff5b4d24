"""What a worker costs that has nothing to do, and how soon it is ready: spawn to the start of a waiting task."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks import processes
from benchmarks.bench import Bench, Trial
from benchmarks.contenders import Contender, Setup
from benchmarks.figures import Sample
from benchmarks.measures.throughput import command_line

CALM = 3.0
"""Longest seconds of nothing before the window in which it is watched."""


def trials(bench: Bench) -> Iterator[Trial]:
    """Each queue."""
    for contender in bench.contenders:
        for setup in contender.setups_for("idle"):
            yield contender_trial(bench, contender, setup)


def contender_trial(bench: Bench, contender: Contender, setup: Setup) -> Trial:
    """One setup of one queue."""

    def take() -> Sample:
        server = bench.server
        server.fresh()
        contender.produce(server.url, "fill", task=f"{setup.tasks}noop", count=1, page=1)
        with bench.workers(contender, setup) as workers:
            ready = (workers.wait_for(1).first - workers.spawned_at) / 1e9
            time.sleep(min(CALM, bench.sizes.idle_seconds))
            pids = workers.pids()
            commands, cpu, begin = server.commands(), processes.precise_cpu_seconds(pids), time.monotonic()
            time.sleep(bench.sizes.idle_seconds)
            took = time.monotonic() - begin
            cpu = processes.precise_cpu_seconds(pids) - cpu
            commands = server.commands() - commands - 1  # one of them was our own question
            return {
                "ready_s": ready,
                "commands_per_s": commands / took,
                "cpu_percent": 100 * cpu / took,
                "rss_mb": processes.resident_mb(pids),
                "processes": len(pids),
            }

    return Trial(f"{contender.name}/{setup.name}", command_line(setup), take)
