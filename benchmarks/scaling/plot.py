"""The plots of the scaling study, as SVG. Needs matplotlib (``pip install -e '.[bench]'``)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SERIES = {"us": "wall", "cpu_us": "worker CPU", "redis_us": "Redis CPU"}


def draw(measures: Mapping[str, Any], directory: Path) -> list[Path]:
    """Write the plots; none when matplotlib is not installed."""
    try:
        import matplotlib  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return []
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "taskq"  # the same curves give the same file
    directory.mkdir(parents=True, exist_ok=True)
    curves = {name: curve for name, curve in measures.items() if "points" in curve and name != "worker_memory"}
    written = [draw_curves(curves, directory / "scaling.svg")] if curves else []
    if "worker_memory" in measures:
        written.append(draw_memory(measures["worker_memory"]["points"], directory / "worker-memory.svg"))
    return written


def draw_curves(curves: Mapping[str, Any], path: Path) -> Path:
    """One small plot per curve: microseconds a task over the size, with the spread as bars."""
    from matplotlib import pyplot

    columns = min(3, len(curves))
    rows = math.ceil(len(curves) / columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(4.2 * columns, 3.2 * rows), squeeze=False)
    places = list(axes.flat)
    for place, curve in zip(places, curves.values(), strict=False):
        points = [point for point in curve["points"] if "figures" in point]
        sizes = [point["size"] for point in points]
        for name, label in SERIES.items():
            known = [point for point in points if name in point["figures"]]
            values = [point["figures"][name] for point in known]
            middle = [value["median"] for value in values]
            bars = [[v["median"] - v["min"] for v in values], [v["max"] - v["median"] for v in values]]
            place.errorbar(
                [point["size"] for point in known], middle, yerr=bars, marker="o", markersize=4, capsize=2, label=label
            )
        place.set_title(curve["title"], fontsize=10)
        place.set_xlabel(curve["axis"], fontsize=8)
        place.set_ylabel("µs a task", fontsize=8)
        place.set_xscale("symlog", linthresh=1) if 0 in sizes else place.set_xscale("log")
        if max(sizes) <= 16:
            place.set_xscale("linear")
        place.set_ylim(bottom=0)
        place.grid(alpha=0.3)
        place.legend(fontsize=7)
    for place in places[len(curves) :]:
        place.set_visible(False)
    return saved(figure, path)


def draw_memory(points: list[Mapping[str, float]], path: Path) -> Path:
    """A worker's resident memory over the tasks it has run."""
    from matplotlib import pyplot

    figure, place = pyplot.subplots(figsize=(5, 3))
    place.plot([point["tasks"] for point in points], [point["rss_mb"] for point in points], marker="o", markersize=4)
    place.set_xlabel("tasks run", fontsize=8)
    place.set_ylabel("worker RSS, MB", fontsize=8)
    place.set_ylim(bottom=0)
    place.grid(alpha=0.3)
    return saved(figure, path)


def saved(figure: Any, path: Path) -> Path:
    """Write the file and let go of the figure."""
    from matplotlib import pyplot

    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path
