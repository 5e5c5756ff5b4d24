"""Tasks sent per second, no worker running: one call after the other, 50 callers at once, and in bulk."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Bench, Trial
from benchmarks.contenders import Contender
from benchmarks.figures import Sample

CALLERS = 50


def trials(bench: Bench) -> Iterator[Trial]:
    """The bare XADD, then each way to send that a queue has."""
    if bench.bare:
        for operation in ("xadd_single", "xadd_pipeline"):
            yield bare_trial(bench, operation)
    for contender in bench.contenders:
        for way in contender.adapter.get("enqueue", ["single"]):
            yield contender_trial(bench, contender, way)


def bare_trial(bench: Bench, operation: str) -> Trial:
    """redis-py alone."""

    def take() -> Sample:
        bench.server.fresh()
        return bench.run_bare(operation, bench.sizes.produce_seconds)[0]

    return Trial(f"bare/{operation}", f"probe/bare.py {operation}", take)


def contender_trial(bench: Bench, contender: Contender, way: str) -> Trial:
    """One way to send: ``single``, ``concurrent`` or ``bulk``."""
    page = CALLERS if way == "concurrent" else contender.page
    what = {
        "single": "one call after the other",
        "concurrent": f"{CALLERS} coroutines, each one call after the other",
        "bulk": f"{page} a call",
    }

    def take() -> Sample:
        bench.server.fresh()
        return contender.produce(bench.server.url, way, seconds=bench.sizes.produce_seconds, page=page)

    return Trial(f"{contender.name}/{way}", contender.adapter.get("calls", {}).get(way, what[way]), take)
