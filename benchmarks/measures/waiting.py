"""Tasks that wait: 2,000 of 50 ms each at concurrency 100, of which the least possible is 1.00 s."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Bench, Trial
from benchmarks.contenders import Contender, Setup
from benchmarks.figures import Sample
from benchmarks.measures.throughput import command_line


def trials(bench: Bench) -> Iterator[Trial]:
    """Each queue."""
    for contender in bench.contenders:
        for setup in contender.setups_for("waiting"):
            yield contender_trial(bench, contender, setup)


def contender_trial(bench: Bench, contender: Contender, setup: Setup) -> Trial:
    """One setup of one queue."""
    count = bench.sizes.waiting_count

    def prepare() -> None:
        bench.server.fresh()
        task = f"{setup.tasks}sleep50"
        contender.produce(bench.server.url, "fill", task=task, count=count, page=contender.page)
        bench.server.save(bench.snapshot(f"waiting/{contender.name}/{setup.name}"))

    def take() -> Sample:
        bench.server.fresh(bench.snapshot(f"waiting/{contender.name}/{setup.name}"))
        with bench.workers(contender, setup) as workers:
            return {"seconds": workers.wait_for(count).seconds}

    return Trial(f"{contender.name}/{setup.name}", command_line(setup), take, prepare, {"count": count})
