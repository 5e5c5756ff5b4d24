"""What taskq has to reach, and whether it does. All ratios are between rows of one measure, taken in the same turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.figures import median_interval, paired_ratio, spread

Spread = Mapping[str, float]

BARE_XADD, BARE_WAKE_P50_MS, BARE_WAKE_P99_MS = 11_400, 0.12, 0.36
"""What the bare loops did on the machine for which the absolute targets were set."""


class Part(NamedTuple):
    """One condition of a target."""

    text: str
    """What was measured, with its spread."""
    met: bool


class Results:
    """The rows of a run, by measure and name.

    Args:
        saved: what the ``run`` command wrote.
    """

    def __init__(self, saved: Mapping[str, Any]) -> None:
        self._measures: Mapping[str, Any] = saved.get("measures", {})
        self._contenders: Mapping[str, Any] = saved.get("contenders", {})

    def rows(self, measure: str) -> Mapping[str, Any]:
        """Every row of a measure that has figures."""
        rows = self._measures.get(measure, {}).get("rows", {})
        return {name: row for name, row in rows.items() if "figures" in row}

    def figure(self, measure: str, name: str, figure: str) -> Spread | None:
        """Median, min and max; None when it was not measured."""
        found: Spread | None = self.rows(measure).get(name, {}).get("figures", {}).get(figure)
        return found

    def ratio(self, measure: str, ours: str, theirs: str, figure: str = "rate") -> Spread | None:
        """Ours divided by theirs, turn by turn; of rows from different runs the ratio of their figures."""
        rows = self.rows(measure)
        if ours not in rows or theirs not in rows:
            return None
        one, other = rows[ours], rows[theirs]
        if one["taken"]["date"] != other["taken"]["date"]:
            return apart(one["figures"][figure], other["figures"][figure])
        return paired_ratio(*([sample[figure] for sample in row["samples"]] for row in (one, other)))

    def best_rival(
        self,
        measure: str,
        suits: Callable[[str, Mapping[str, Any]], bool],
        figure: str = "rate",
        language: str | None = None,
    ) -> str | None:
        """The rival's row with the highest median, of those that *suits* takes."""
        found = {
            name: row["figures"][figure]["median"]
            for name, row in self.rows(measure).items()
            if name.split("/")[0] not in ("taskq", "bare")
            and suits(name, row)
            and language in (None, self._contenders.get(name.split("/")[0], {}).get("language"))
        }
        return max(found, key=lambda name: found[name]) if found else None


@dataclass(frozen=True, slots=True)
class Target:
    """A row of the table."""

    key: str
    """Under which ``notes.toml`` gives the reason when it is not met."""
    figure: str
    wanted: str
    judge: Callable[[Results], Iterable[Part | None]]

    def parts(self, results: Results) -> list[Part]:
        """What was measured of it."""
        return [part for part in self.judge(results) if part is not None]


def at_least(value: Spread | None, least: float, what: str, digits: int = 2) -> Part | None:
    """A ratio or figure that must not be below *least*."""
    return None if value is None else Part(f"{shown(value, digits)} {what}", value["median"] >= least)


def at_most(value: Spread | None, most: float, what: str, digits: int = 2) -> Part | None:
    """A figure that must not be above *most*."""
    return None if value is None else Part(f"{shown(value, digits)} {what}", value["median"] <= most)


def shown(value: Spread, digits: int = 2) -> str:
    """Median (min - max)."""
    text = f"{value['median']:,.{digits}f} ({value['min']:,.{digits}f} - {value['max']:,.{digits}f})"
    return f"{text} (not in one run)" if "apart" in value else text


def apart(one: Spread, other: Spread) -> Spread:
    """The ratio of two figures that were not taken in turns: the machine may have been faster for one of them."""
    least, most = one["min"] / other["max"], one["max"] / other["min"]
    return {"median": one["median"] / other["median"], "min": least, "max": most, "apart": True}


def beside(value: Spread | None, wanted: float, what: str) -> Part | None:
    """An absolute target as a ratio to a bare loop: what it asks of a machine that is faster or slower.

    Args:
        value: the ratio measured.
        wanted: the target over what the bare loop did on the machine for which the targets were set.
        what: the bare loop.
    """
    return None if value is None else Part(f"{shown(value)} x {what} of this run (asked: {wanted:.1f})", met=True)


def of_one_process(results_on: bool) -> Callable[[str, Mapping[str, Any]], bool]:
    """Rows of one worker process, with or without results."""
    return lambda name, row: row.get("processes") == 1 and row.get("results") is results_on


def no_op_plain(r: Results) -> Iterable[Part | None]:
    """One process, no results: the limit, and the best rivals in Node and Python."""
    ours = "taskq/one/plain"
    yield at_least(r.figure("throughput", ours, "rate"), 0, "tasks/s", 0)
    yield at_least(r.ratio("throughput", ours, "bare/loop_msgpack"), 0.50, "of the bare msgpack loop")
    for language, factor in (("node", 3), ("python", 10)):
        best = r.best_rival("throughput", of_one_process(False), language=language)
        if best:
            yield at_least(r.ratio("throughput", ours, best), factor, f"x {best.split('/')[0]}", 1)


def no_op_results(r: Results) -> Iterable[Part | None]:
    """One process, with results."""
    yield at_least(r.figure("throughput", "taskq/one/results", "rate"), 0, "tasks/s", 0)
    ratio = r.ratio("throughput", "taskq/one/results", "bare/loop_results")
    yield at_least(ratio, 0.50, "of the bare loop that writes results")


def two_processes(r: Results) -> Iterable[Part | None]:
    """Two worker processes against one."""
    for kind, what in (("plain", "results off"), ("results", "results on")):
        yield at_least(r.ratio("throughput", f"taskq/two/{kind}", f"taskq/one/{kind}"), 1.6, f"x one, {what}")


def no_op_async(r: Results) -> Iterable[Part | None]:
    """Async tasks on one process."""
    yield at_least(r.figure("throughput", "taskq/async/plain", "rate"), 0, "tasks/s", 0)
    yield at_least(r.ratio("throughput", "taskq/async/plain", "bare/loop_asyncio"), 0.50, "of the bare asyncio loop")
    harder = r.ratio("throughput", "taskq/async/plain", "bare/loop_uvloop")
    yield at_least(harder, 0, "of the same loop on uvloop with msgpack, as taskq runs (no target)")


def processes_pool(r: Results) -> Iterable[Part | None]:
    """The pool of child processes."""
    ours = "taskq/processes/plain"
    yield at_least(r.figure("throughput", ours, "rate"), 20_000, "tasks/s", 0)
    yield at_least(r.ratio("throughput", ours, "celery/prefork2/plain"), 5, "x Celery prefork", 1)


def single_calls(r: Results) -> Iterable[Part | None]:
    """One ``.delay()`` after the other."""
    yield at_least(r.figure("enqueue", "taskq/single", "rate"), 0, "calls/s", 0)
    yield at_least(r.ratio("enqueue", "taskq/single", "bare/xadd_single"), 0.95, "of a bare XADD")
    best = r.best_rival("enqueue", lambda name, row: name.endswith("/single"))
    if best:
        yield at_least(r.ratio("enqueue", "taskq/single", best), 1, f"x the fastest rival, {best.split('/')[0]}")


def concurrent_calls(r: Results) -> Iterable[Part | None]:
    """Fifty coroutines."""
    yield at_least(r.figure("enqueue", "taskq/concurrent", "rate"), 100_000, "calls/s", 0)
    yield beside(r.ratio("enqueue", "taskq/concurrent", "bare/xadd_single"), 100_000 / BARE_XADD, "a bare XADD")


def bulk_calls(r: Results) -> Iterable[Part | None]:
    """``delay_many``."""
    yield at_least(r.figure("enqueue", "taskq/bulk", "rate"), 250_000, "calls/s", 0)
    yield beside(r.ratio("enqueue", "taskq/bulk", "bare/xadd_single"), 250_000 / BARE_XADD, "a bare XADD")


def start_latency(r: Results) -> Iterable[Part | None]:
    """Send to start on an idle worker."""
    for figure, most, bare_ms in (("p50_ms", 0.35, BARE_WAKE_P50_MS), ("p99_ms", 1.0, BARE_WAKE_P99_MS)):
        yield at_most(r.figure("latency", "taskq/shipped", figure), most, f"ms {figure[:3]}")
        yield beside(r.ratio("latency", "taskq/shipped", "bare/wake", figure), most / bare_ms, "a bare wake-up")


def waiting_tasks(r: Results) -> Iterable[Part | None]:
    """Tasks that sleep."""
    yield at_most(r.figure("waiting", "taskq/async", "seconds"), 1.03, "s async", 3)
    yield at_most(r.figure("waiting", "taskq/threads100", "seconds"), 1.08, "s threads", 3)


def broker_memory(r: Results) -> Iterable[Part | None]:
    """Queued, and after the drain."""
    yield at_most(r.figure("memory", "taskq/two", "bytes_per_task"), 180, "bytes per task", 0)
    yield at_most(r.figure("memory", "taskq/two", "left_bytes"), 0, "bytes left", 0)
    yield at_most(r.figure("memory", "taskq/two", "left_keys"), 0, "task keys left", 0)


def idle_worker(r: Results) -> Iterable[Part | None]:
    """With nothing to do."""
    conditions = (("commands_per_s", 0.7, "commands/s", 2), ("cpu_percent", 0.1, "% CPU", 3))
    for figure, most, what, digits in (*conditions, ("rss_mb", 40, "MB", 1), ("ready_s", 0.2, "s to ready", 2)):
        yield at_most(r.figure("idle", "taskq/shipped", figure), most, what, digits)


def round_trips(r: Results) -> Iterable[Part | None]:
    """``delay().get()``."""
    yield at_least(r.figure("round_trip", "taskq/shipped", "rate"), 3000, "/s", 0)


def batch_inserts(r: Results) -> Iterable[Part | None]:
    """A batch task against a task for each row."""
    yield at_least(r.figure("inserts", "taskq/batch", "rate"), 0, "rows/s", 0)
    yield at_least(r.ratio("inserts", "taskq/batch", "taskq/one by one"), 5, "x one by one", 1)


def metrics_cost(r: Results) -> Iterable[Part | None]:
    """A worker with its metrics switched on."""
    row = r.rows("metrics").get("taskq/pairs", {})
    if pairs := row.get("pairs"):
        yield at_least(spread(pairs), 0.97, f"x without: {of_pairs(pairs)}", 3)
    if cpu_pairs := row.get("cpu_pairs"):
        yield at_most(spread(cpu_pairs), 1.03, f"x the worker's CPU per task: {of_pairs(cpu_pairs)}", 3)


def of_pairs(pairs: Sequence[float]) -> str:
    """How sure their median is."""
    low, high = median_interval(pairs)
    return f"median of {len(pairs)} pairs, which lies between {low:.3f} and {high:.3f} (95 %)"


def scrape(r: Results) -> Iterable[Part | None]:
    """The exporter, with a hundred queues."""
    yield at_most(r.figure("metrics", "taskq/scrape", "scrape_ms"), 50, "ms", 1)
    yield at_most(r.figure("metrics", "taskq/scrape", "round_trips"), 10, "round trips", 0)


def window_job(r: Results) -> Iterable[Part | None]:
    """A batch job over a long window."""
    yield at_least(r.figure("window", "taskq/window", "rate"), 100_000, "events/s", 0)
    yield at_most(r.figure("window", "taskq/window", "rss_growth_mb"), 20, "MB more in the worker", 1)


def replayed(r: Results) -> Iterable[Part | None]:
    """Dead letters put back."""
    yield at_least(r.figure("dead_letters", "taskq/replay", "rate"), 20_000, "/s", 0)


def single_events(r: Results) -> Iterable[Part | None]:
    """One ``publish`` after the other."""
    yield at_least(r.figure("publishing", "taskq/publish", "rate"), 0, "/s", 0)
    yield at_least(r.ratio("publishing", "taskq/publish", "bare/xadd_single"), 0.8, "of a bare XADD")


def bulk_events(r: Results) -> Iterable[Part | None]:
    """``publish_many``."""
    yield at_least(r.figure("publishing", "taskq/publish_many", "rate"), 200_000, "/s", 0)
    ratio = r.ratio("publishing", "taskq/publish_many", "bare/xadd_single")
    yield beside(ratio, 200_000 / BARE_XADD, "a bare XADD")


def three_groups(r: Results) -> Iterable[Part | None]:
    """One event to three groups."""
    yield at_most(r.ratio("publishing", "taskq/groups", "bare/groups", "us"), 1.3, "x three bare reads")


TARGETS = (
    Target(
        "no_op_plain",
        "no-op, one worker process, results off",
        ">= 0.50 of the bare msgpack loop, >= 3 x BullMQ, >= 10 x the fastest Python rival",
        no_op_plain,
    ),
    Target("no_op_results", "no-op, results on", ">= 0.50 of a bare loop that writes each result too", no_op_results),
    Target("two_processes", "two worker processes", ">= 1.6 x one, results off and on", two_processes),
    Target("no_op_async", "async no-op, one process", ">= 0.50 of the bare asyncio loop", no_op_async),
    Target(
        "processes_pool",
        "processes pool (`-P processes -c 2`)",
        ">= 20,000 tasks/s and >= 5 x Celery prefork",
        processes_pool,
    ),
    Target("single_calls", "`.delay()` one at a time", ">= 0.95 of a bare XADD, no rival faster", single_calls),
    Target("concurrent_calls", "50 concurrent `adelay()`", ">= 100,000/s", concurrent_calls),
    Target("bulk_calls", "`delay_many`", ">= 250,000/s", bulk_calls),
    Target("start_latency", "enqueue to start, idle worker", "p50 <= 0.35 ms, p99 <= 1.0 ms", start_latency),
    Target(
        "waiting_tasks", "2,000 tasks of 50 ms at concurrency 100", "<= 1.03 s async, <= 1.08 s threads", waiting_tasks
    ),
    Target(
        "broker_memory", "Redis memory, 100-byte argument", "<= 180 bytes a task; nothing left of it", broker_memory
    ),
    Target("idle_worker", "idle worker", "<= 0.7 commands/s, <= 0.1 % CPU, <= 40 MB, ready in <= 0.2 s", idle_worker),
    Target("batch_inserts", "batch task into PostgreSQL", ">= 5 x one task per row", batch_inserts),
    Target("metrics_cost", "worker with `--metrics-port`", ">= 0.97 of its throughput without", metrics_cost),
    Target("scrape", "`taskq metrics`, 100 queues", "<= 50 ms, <= 10 round trips", scrape),
    Target("window_job", "window job over 1,000,000 events", ">= 100,000 events/s, <= 20 MB more", window_job),
    Target("replayed", "replay of 100,000 dead letters", ">= 20,000/s", replayed),
    Target("single_events", "`app.publish` one at a time", ">= 0.8 of a bare XADD", single_events),
    Target("bulk_events", "`publish_many`", ">= 200,000/s", bulk_events),
    Target("three_groups", "one event to 3 groups, one worker", "<= 1.3 x three reads of a bare loop", three_groups),
    Target("round_trips", "`delay().get()`, one caller", ">= 3,000/s", round_trips),
)
