"""A batch job over a window of events: how many a second, and what the worker's memory grows by."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Bench, Trial
from benchmarks.contenders import Contender, Setup
from benchmarks.figures import Sample
from benchmarks.measures.throughput import command_line
from taskq import TaskQ

RATE = 250_000
"""Events per second to expect; the full size is a million."""


def trials(bench: Bench) -> Iterator[Trial]:
    """taskq alone: no rival has such jobs."""
    for contender in bench.contenders:
        for setup in contender.setups_for("window"):
            yield window_trial(bench, contender, setup)


def window_trial(bench: Bench, contender: Contender, setup: Setup) -> Trial:
    """One setup."""
    count = max(int(RATE * bench.sizes.throughput_seconds), 1000)

    def prepare() -> None:
        bench.server.fresh()
        app = TaskQ("bench", broker_url=bench.server.url)
        app.topic("orders")
        for start in range(0, count, 10_000):
            rows = range(start, min(start + 10_000, count))
            app.publish_many("orders", [{"order": n, "amount": n % 1000, "customer": f"c{n % 977}"} for n in rows])
        app.close()
        bench.server.save(bench.snapshot("window"))

    def take() -> Sample:
        bench.server.fresh(bench.snapshot("window"))
        app = TaskQ("bench", broker_url=bench.server.url)
        try:
            with bench.workers(contender, setup):
                done, seconds, growth = app.send_task("settle").get(timeout=300)
        finally:
            app.close()
        if done != count:
            raise RuntimeError(f"{count} events were published, {done} were read")
        return {"rate": done / seconds, "rss_growth_mb": growth}

    return Trial(f"{contender.name}/window", command_line(setup), take, prepare, {"count": count})
