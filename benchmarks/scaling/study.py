"""The ``scaling`` command: takes every curve, and says which are flat."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import contenders, machine, source
from benchmarks.bench import Bench, say
from benchmarks.figures import Sample, spread, summarize
from benchmarks.scaling.curves import CURVES, Curve, Scale, Study, worker_memory
from benchmarks.server import Server
from benchmarks.sizes import QUICK

__all__ = ["CURVES", "FULL", "NORMAL", "SMOKE", "run"]

TOLERANCE = 0.15
"""How much more a task may cost at the dearest size than at the cheapest, for a curve to count as flat."""

NORMAL = Scale(
    name="normal",
    backlog=(1_000, 100_000, 1_000_000),
    delayed=(10_000, 100_000, 1_000_000),
    pending=(0, 1_000, 100_000),
    workers=(1, 2, 4, 8),
    payload=(100, 1_000, 10_000, 100_000),
    run=100_000,
    memory=1_000_000,
)
FULL = Scale(
    name="full",
    backlog=(1_000, 10_000, 100_000, 1_000_000, 10_000_000),
    delayed=(10_000, 100_000, 1_000_000),
    pending=(0, 1_000, 10_000, 100_000),
    workers=(1, 2, 3, 4, 6, 8),
    payload=(100, 300, 1_000, 3_000, 10_000, 30_000, 100_000),
    run=200_000,
    memory=3_000_000,
)
SMOKE = Scale(
    name="smoke",
    backlog=(100, 20_000),
    delayed=(100, 1_000),
    pending=(0, 100),
    workers=(1, 2),
    payload=(100, 1_000),
    run=1_000,
    memory=1_000,
)


def run(names: Sequence[str], scale: Scale, reps: int) -> dict[str, Any]:
    """Take the curves *names*, and watch a worker's memory."""
    with tempfile.TemporaryDirectory(prefix="taskq-benchmarks-") as scratch, Server(Path(scratch) / "redis") as server:
        taskq = contenders.own(Path(scratch))
        study = Study(Bench(QUICK, reps, server, Path(scratch), [taskq]), taskq, scale)
        found = {
            "machine": machine.describe(server.version),
            "measures": {name: taken(study, CURVES[name], reps) for name in names},
        }
        if len(names) == len(CURVES):
            say("worker memory")
            found["measures"]["worker_memory"] = {"date": today(), "points": worker_memory(study)}
    return found


def taken(study: Study, curve: Curve, reps: int) -> dict[str, Any]:
    """One curve: every size in turns, so that a slow spell of the machine bends none of them."""
    sizes, code = curve.sizes(study.scale), source.digest()
    samples: dict[int, list[Sample]] = {size: [] for size in sizes}
    speeds = []
    for turn in range(reps):
        for size in sizes:
            speeds.append(machine.speed())
            samples[size].append(curve.sample(study, size))
            figures = ", ".join(f"{k} {v:,.4g}" for k, v in samples[size][-1].items())
            say(f"  {turn + 1}/{reps} {curve.title}: {size:,}: {figures}")
    points = [{"size": size, "figures": summarize(samples[size])} for size in sizes]
    return {
        "date": today(),
        "title": curve.title,
        "axis": curve.axis,
        "reps": reps,
        "source": source.during(code),
        "machine_speed": spread(speeds),
        "points": points,
        "growth": growth(points, curve.flat),
        "flat": all(value <= 1 + TOLERANCE for value in growth(points, curve.flat).values()),
    }


def growth(points: Sequence[Mapping[str, Any]], figures: Sequence[str]) -> dict[str, float]:
    """Per figure: the dearest size over the cheapest one. Not over the smallest size: one that is dear for reasons of
    its own would hide what grows."""
    found = {}
    for name in figures:
        medians = [point["figures"][name]["median"] for point in points if name in point["figures"]]
        found[name] = round(max(medians) / max(min(medians), 1e-9), 3)
    return found


def today() -> str:
    """The date of a study."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
