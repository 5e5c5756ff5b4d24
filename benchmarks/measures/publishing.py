"""Events published per second, beside XADD and ``.delay()``; and what it costs to hand an event to three groups.

The bare side of the groups is one process that reads the same stream for three groups: read 100, decode, call,
acknowledge. taskq's is one worker that serves three subscribers. Both count from the first call to the last.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Bench, Trial
from benchmarks.contenders import Contender, Setup
from benchmarks.figures import Sample
from benchmarks.measures.enqueue import bare_trial
from benchmarks.measures.throughput import command_line

GROUPS = 3
RATE = 20_000
"""Events per second to expect, each read by every group."""
WAYS = {
    "publish": ("events", "single", "app.publish(), one call after the other"),
    "delay": ("app", "single", ".delay(), one call after the other"),
    "publish_many": ("events", "bulk", "app.publish_many(), 1,000 a call"),
    "delay_many": ("app", "bulk", ".delay_many(), 1,000 a call"),
}
"""The module of ``own/`` that sends, how, and what that is."""


def trials(bench: Bench) -> Iterator[Trial]:
    """taskq beside the bare loops: no rival publishes."""
    if bench.bare:
        for operation in ("xadd_single", "xadd_pipeline"):
            yield bare_trial(bench, operation)
    for contender in bench.contenders:
        for setup in contender.setups_for("publishing"):
            for way in WAYS:
                yield sending_trial(bench, contender, way)
            yield groups_trial(bench, contender, setup)
    if bench.bare:
        yield bare_groups_trial(bench)


def sending_trial(bench: Bench, contender: Contender, way: str) -> Trial:
    """One way to send."""
    module, operation, command = WAYS[way]

    def take() -> Sample:
        bench.server.fresh()
        seconds = bench.sizes.produce_seconds
        return contender.produce(bench.server.url, operation, app=module, seconds=seconds, page=contender.page)

    return Trial(f"{contender.name}/{way}", command, take)


def count_for(bench: Bench) -> int:
    """How many events the groups read in one sample."""
    return max(int(RATE * bench.sizes.throughput_seconds), 100)


def groups_trial(bench: Bench, contender: Contender, setup: Setup) -> Trial:
    """One worker with three subscribers."""
    count = count_for(bench)

    def prepare() -> None:
        bench.server.fresh()
        contender.produce(bench.server.url, "fill", app="events", count=count, page=contender.page)
        bench.server.save(bench.snapshot("publishing/groups"))

    def take() -> Sample:
        bench.server.fresh(bench.snapshot("publishing/groups"))
        with bench.workers(contender, setup) as workers:
            drained = workers.drain(GROUPS * count)
        return per_event(drained) | {"surplus": drained["surplus"]}

    about = {"count": count, "groups": GROUPS}
    return Trial(f"{contender.name}/groups", command_line(setup), take, prepare, about)


def bare_groups_trial(bench: Bench) -> Trial:
    """The reads of three groups, without any queue."""
    count = count_for(bench)

    def take() -> Sample:
        bench.server.fresh()
        bench.run_bare("fill_groups", count)
        redis_cpu = bench.server.cpu_seconds()
        done = bench.run_bare("loop_groups", count)[1].count()
        redis_us = 1e6 * (bench.server.cpu_seconds() - redis_cpu) / done.ended
        return per_event({"rate": done.ended / done.seconds, "redis_us": redis_us})

    about = {"count": count, "groups": GROUPS}
    return Trial("bare/groups", f"probe/bare.py loop_groups {count}", take, about=about)


def per_event(calls: Sample) -> Sample:
    """The figures of an event from those of a call, of which each event takes three."""
    costs = {name: GROUPS * calls[name] for name in ("cpu_us", "redis_us") if name in calls}
    return {"rate": calls["rate"] / GROUPS, "us": 1e6 * GROUPS / calls["rate"]} | costs
