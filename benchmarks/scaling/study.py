"""The ``scaling`` command: takes every curve, and says which are flat."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import contenders, machine, source
from benchmarks.bench import Bench, now, say
from benchmarks.figures import Sample, spread, summarize
from benchmarks.scaling.curves import CURVES, Curve, Scale, Study, worker_memory
from benchmarks.server import Server
from benchmarks.sizes import QUICK

__all__ = ["CURVES", "FULL", "NORMAL", "SMOKE", "merged", "run"]

Points = list[dict[str, Any]]
"""By size; for JSON."""
TOLERANCE = 0.15
"""How much more a task may cost at the dearest size than at the cheapest, for a curve to count as flat."""

NORMAL = Scale(
    name="normal",
    backlog=(1_000, 100_000, 1_000_000),
    delayed=(10_000, 100_000, 1_000_000),
    pending=(0, 1_000, 100_000),
    keys=(1, 100, 10_000, 1_000_000),
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
    keys=(1, 10, 100, 1_000, 10_000, 100_000, 1_000_000),
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
    keys=(1, 100),
    workers=(1, 2),
    payload=(100, 1_000),
    run=1_000,
    memory=1_000,
)


def run(
    names: Sequence[str], scale: Scale, reps: int, chosen: Sequence[int], keep: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Take the curves *names*, and with all of them watch a worker's memory.

    Args:
        names, scale, reps: what to take, how far, and how often.
        chosen: of each curve only these sizes; empty for those of *scale*.
        keep: gets what there is after each turn of a curve, so that an interrupted study loses nothing.
    """
    with tempfile.TemporaryDirectory(prefix="taskq-benchmarks-") as scratch, Server(Path(scratch) / "redis") as server:
        taskq = contenders.own(Path(scratch))
        study = Study(Bench(QUICK, reps, server, Path(scratch), [taskq]), taskq, scale)
        found: dict[str, Any] = {"machine": machine.describe(server.version), "measures": {}}
        for name in names:
            curve = CURVES[name]

            def keep_points(points: Points, name: str = name) -> None:
                found["measures"][name] = judged(name, points)
                keep(found)

            take(study, curve, chosen or curve.sizes(scale), keep_points)
        if len(names) == len(CURVES) and not chosen:
            say("worker memory")
            found["measures"]["worker_memory"] = {"date": now(), "points": worker_memory(study)}
            keep(found)
    return found


def take(study: Study, curve: Curve, sizes: Sequence[int], keep: Callable[[Points], None]) -> None:
    """One curve: every size in turns, so that a slow spell of the machine bends none of them."""
    date, code = now(), source.digest()
    samples: dict[int, list[Sample]] = {size: [] for size in sizes}
    skipped: dict[int, str] = {}
    speeds: list[float] = []

    def points() -> Points:
        taken = {"date": date, "source": source.during(code), "machine_speed": spread(speeds) if speeds else None}
        return [
            {"size": size, "taken": taken | {"turns": len(one)}, "figures": summarize(one), "samples": one}
            if one
            else {"size": size, "skipped": skipped[size]}
            for size, one in samples.items()
            if one or size in skipped
        ]

    try:
        for turn in range(study.bench.reps):
            for size in sizes:
                if reason := lacking(curve.bytes_each * size):
                    say(f"  {curve.title}: {size:,}: skipped: {reason}")
                    skipped[size] = reason
                    continue
                speeds.append(machine.speed())
                samples[size].append(curve.sample(study, size))
                figures = ", ".join(f"{k} {v:,.4g}" for k, v in samples[size][-1].items())
                say(f"  {turn + 1}/{study.bench.reps} {curve.title}: {size:,}: {figures}")
            keep(points())
    finally:
        keep(points())


def lacking(needed: int) -> str:
    """Why the machine has not enough memory for so many bytes; empty when it has."""
    free = machine.available_memory()
    return "" if needed <= free else f"it needs {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"


def judged(name: str, points: Points) -> dict[str, Any]:
    """A curve: its points, and whether it is flat."""
    curve, measured = CURVES[name], [point for point in points if "figures" in point]
    found = growth(measured, curve.flat)
    return {
        "title": curve.title,
        "axis": curve.axis,
        "points": points,
        "growth": found,
        "flat": all(value <= 1 + TOLERANCE for value in found.values()),
    }


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """*new*, with the curves and sizes that only *old* has."""
    together = {**old.get("measures", {}), **new["measures"]}
    for name in set(new["measures"]) & set(old.get("measures", {})) & set(CURVES):
        points = {point["size"]: point for point in old["measures"][name]["points"]}
        points |= {
            point["size"]: point
            for point in new["measures"][name]["points"]
            if "figures" in point or point["size"] not in points
        }
        together[name] = judged(name, [points[size] for size in sorted(points)])
    order = [*CURVES, "worker_memory"]
    return {**new, "measures": {name: together[name] for name in order if name in together}}


def growth(points: Sequence[Mapping[str, Any]], figures: Sequence[str]) -> dict[str, float]:
    """Per figure: the dearest size over the cheapest one. Not over the smallest size: one that is dear for reasons of
    its own would hide what grows."""
    found = {}
    for name in figures:
        medians = [point["figures"][name]["median"] for point in points if name in point["figures"]]
        if medians:
            found[name] = round(max(medians) / max(min(medians), 1e-9), 3)
    return found
