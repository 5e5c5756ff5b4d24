"""``delay().get()`` per second: one caller that waits for each result before it sends the next."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Bench, Trial
from benchmarks.contenders import Contender, Setup
from benchmarks.figures import Sample
from benchmarks.measures.throughput import command_line


def trials(bench: Bench) -> Iterator[Trial]:
    """The queues whose adapter has ``call``."""
    for contender in bench.contenders:
        for setup in contender.setups_for("round_trip"):
            yield contender_trial(bench, contender, setup)


def contender_trial(bench: Bench, contender: Contender, setup: Setup) -> Trial:
    """One setup of one queue."""

    def take() -> Sample:
        bench.server.fresh()
        contender.produce(bench.server.url, "fill", results=True, task="noop", count=1, page=1)
        with bench.workers(contender, setup, results=True) as workers:
            workers.wait_for(1)
            seconds = bench.sizes.round_trip_seconds
            return contender.produce(bench.server.url, "round_trip", results=True, seconds=seconds)

    return Trial(f"{contender.name}/{setup.name}", command_line(setup), take)
