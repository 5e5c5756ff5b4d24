"""What metrics cost: no-op tasks per second with and without ``--metrics-port``, and one scrape of ``taskq metrics``.

The cost is far below what the machine's speed varies by within seconds, so it takes many short pairs: one worker with,
one without, each time in the other order.
The queues of the scrape hold messages, and every one has leases and a history, so that each is really read.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest

from benchmarks.bench import Bench, Trial
from benchmarks.contenders import Contender, Setup
from benchmarks.figures import Sample
from benchmarks.measures.throughput import command_line
from taskq.broker import scripts
from taskq.broker.views.totals import HISTORY_MINUTES, Sums
from taskq.broker.views.workers import WorkerRecord, pack_record
from taskq.client.app import TaskQ
from taskq.observe.metrics import Exporter

QUEUES = 100
WORKERS = 20
SCRAPES = 20
PAIRS = 10
"""In one turn."""
SHORT = 2
"""How much shorter a sample of a pair is than one of throughput."""


def trials(bench: Bench) -> Iterator[Trial]:
    """The queues whose adapter has setups for it: taskq."""
    for contender in bench.contenders:
        if setups := contender.setups_for("metrics"):
            yield pairs_trial(bench, contender, *setups)
        if contender.own:
            yield scrape_trial(bench, contender)


def pairs_trial(bench: Bench, contender: Contender, off: Setup, on: Setup) -> Trial:
    """Both setups, again and again, on the same messages."""
    count = max(int(off.rate * bench.sizes.throughput_seconds / SHORT), 100)
    pairs: list[float] = []
    cpu_pairs: list[float] = []

    def prepare() -> None:
        bench.server.fresh()
        contender.produce(bench.server.url, "fill", task="noop", count=count, page=contender.page)
        bench.server.save(bench.snapshot("metrics"))

    def drain(setup: Setup) -> Sample:
        bench.server.fresh(bench.snapshot("metrics"))
        with bench.workers(contender, setup) as workers:
            return workers.drain(count)

    def take() -> Sample:
        found: list[dict[str, Sample]] = []
        for number in range(PAIRS):
            found.append({setup.name: drain(setup) for setup in ((off, on) if number % 2 else (on, off))})
        rates, cpus = (
            [round(pair[on.name][what] / pair[off.name][what], 4) for pair in found] for what in ("rate", "cpu_us")
        )
        pairs.extend(rates)
        cpu_pairs.extend(cpus)
        middle = {name: statistics.median(pair[name]["rate"] for pair in found) for name in (on.name, off.name)}
        ratios = {"ratio": statistics.median(rates), "cpu_ratio": statistics.median(cpus)}
        return ratios | {"on": middle[on.name], "off": middle[off.name]}

    command = f"{command_line(on)}, and without"
    about = {"count": count, "pairs": pairs, "cpu_pairs": cpu_pairs}
    return Trial(f"{contender.name}/pairs", command, take, prepare, about)


def scrape_trial(bench: Bench, contender: Contender) -> Trial:
    """The text of one scrape, from the request to the last byte but for HTTP."""

    def take() -> Sample:
        bench.server.fresh()
        app = TaskQ("bench", bench.server.url)
        registry = CollectorRegistry()
        Exporter(app, registry)
        fill(app)
        took = []
        for _ in range(SCRAPES):
            began = time.perf_counter()
            text = generate_latest(registry).decode()
            took.append(1000 * (time.perf_counter() - began))
        app.close()
        (trips,) = [line for line in text.splitlines() if line.startswith("taskq_scrape_round_trips")]
        return {
            "scrape_ms": statistics.median(took),
            "worst_ms": max(took),
            "round_trips": float(trips.split()[-1]),
            "queues": text.count("\ntaskq_queue_lag{"),
        }

    return Trial(f"{contender.name}/scrape", f"taskq metrics, {QUEUES} queues, {WORKERS} workers", take)


def fill(app: TaskQ) -> None:
    """Queues with messages, leases and a history; workers with records."""
    broker, names = app.sync_broker, [f"queue-{number}" for number in range(QUEUES)]
    workers = [f"host:{number}:bench".encode() for number in range(WORKERS)]
    for number, name in enumerate(names):
        keys = app.keys.queue(name)
        for _ in range(3):
            app.send_task("noop", queue=name)
        app.send_task("noop", queue=name, countdown=600)
        for worker in workers[number % WORKERS :][:3]:
            broker.run(scripts.register(keys, worker, 600_000, [keys.stream("front"), keys.stream(5)]))
        lives = (600_000, 600_000, HISTORY_MINUTES)
        broker.run(scripts.count(keys, workers[0], 1, Sums(60), ("SUCCESS:noop", 60), lives))
    for worker in workers:
        record = WorkerRecord("bench", "host", 1, "1", "3", "threads", names, 0, 0, 15_000)
        broker.execute("SET", app.keys.worker(worker), pack_record(record), "PX", 600_000)
