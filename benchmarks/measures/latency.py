"""From just before the send call to the first line of the task, on an idle worker: one task each 10 ms."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from benchmarks.bench import Bench, Trial
from benchmarks.contenders import Contender, Setup
from benchmarks.figures import Sample, percentile
from benchmarks.measures.throughput import command_line

IDLE_FIRST = 0.3
"""Seconds of nothing before the first measured task."""


def trials(bench: Bench) -> Iterator[Trial]:
    """A bare blocked XREADGROUP, then each queue."""
    if bench.bare:
        yield Trial("bare/wake", "probe/bare.py wake: XADD to a blocked XREADGROUP, raw sockets", lambda: bare(bench))
    for contender in bench.contenders:
        for setup in contender.setups_for("latency"):
            yield contender_trial(bench, contender, setup)


def bare(bench: Bench) -> Sample:
    """Two processes over raw sockets."""
    bench.server.fresh()
    return summary(bench.run_bare("wake", bench.sizes.latency_count)[0]["latencies_ms"])


def contender_trial(bench: Bench, contender: Contender, setup: Setup) -> Trial:
    """One setup of one queue."""

    def take() -> Sample:
        bench.server.fresh()
        contender.produce(bench.server.url, "fill", task=f"{setup.tasks}noop", count=1, page=1)
        with bench.workers(contender, setup) as workers:
            workers.wait_for(1)
            time.sleep(IDLE_FIRST)
            count = bench.sizes.latency_count
            contender.produce(bench.server.url, "paced", task=f"{setup.tasks}stamp", count=count)
            workers.wait_for(count + 1)
            return summary(workers.readout.latencies_ms())

    return Trial(f"{contender.name}/{setup.name}", command_line(setup), take)


def summary(latencies_ms: Sequence[float]) -> Sample:
    """Percentiles in milliseconds; the first task opens connections, and does not count."""
    measured = latencies_ms[1:] or latencies_ms
    return {"p50_ms": percentile(measured, 50), "p99_ms": percentile(measured, 99), "max_ms": max(measured)}
