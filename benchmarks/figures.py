"""Samples to figures: median and spread, percentiles, ratios."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

Sample = dict[str, float]
"""What one run of a trial measured, by name."""


def summarize(samples: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Per name: median, min and max over *samples*."""
    names = dict.fromkeys(name for sample in samples for name in sample)
    return {name: spread([sample[name] for sample in samples if name in sample]) for name in names}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, min and max."""
    return {"median": short(statistics.median(values)), "min": short(min(values)), "max": short(max(values))}


def short(value: float) -> float:
    """*value* with as many digits as mean something."""
    return float(f"{value:.5g}")


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Where the true median lies with 95 % confidence, whatever the distribution; all of *values* when they are few."""
    ordered, beyond = sorted(values), math.floor((len(values) - 1.96 * math.sqrt(len(values))) / 2)
    return ordered[max(beyond - 1, 0)], ordered[min(len(values) - beyond, len(values) - 1)]


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that *percent* of *values* do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Ours divided by theirs, turn by turn: what slows the machine in one turn slows both."""
    return spread([one / other for one, other in zip(ours, theirs, strict=False)])
