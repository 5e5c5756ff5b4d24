"""The numbers of one worker process as plain data: summed over processes, and shown to Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0),
)
"""Upper bounds in seconds of both histograms."""

Snapshot = dict[str, dict[tuple[str, ...], list[float]]]
"""Metric -> label values -> numbers. A counter: ``[count]``. A histogram: the count of each bucket, the count of
what is beyond the last one, and the sum."""

_LABELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "taskq_tasks": ("Deliveries that ended, by how they ended.", ("task", "queue", "state")),
    "taskq_task_retries": ("Runs that failed and will be tried again.", ("task", "queue")),
    "taskq_task_runtime_seconds": ("How long runs took.", ("task", "queue")),
    "taskq_task_wait_seconds": ("From the message's birth in its queue to its start.", ("task", "queue")),
    "taskq_redelivered": ("Messages taken over from dead workers.", ("queue",)),
    "taskq_lease_lost": ("Times this worker lost its own lease.", ("queue",)),
    "taskq_unknown_tasks": ("Messages handed back because the worker does not know their task.", ("queue",)),
}
_BOUNDS = [*(repr(bound) for bound in BUCKETS), "+Inf"]


def merge(total: Snapshot, part: Snapshot) -> None:
    """Add *part* to *total*."""
    for name, series in part.items():
        into = total.setdefault(name, {})
        for labels, values in series.items():
            known = into.get(labels)
            into[labels] = list(values) if known is None else [a + b for a, b in zip(known, values, strict=True)]


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """Every metric, those without numbers too, so that a scrape always shows what there is."""
    for name, (text, labels) in _LABELS.items():
        series = snapshot.get(name, {}).items()
        build = _histogram if name.endswith("_seconds") else _counter
        yield build(name, text, labels, series)


def _counter(
    name: str, text: str, labels: tuple[str, ...], series: Iterable[tuple[tuple[str, ...], list[float]]]
) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, (count,) in series:
        family.add_metric(values, count)
    return family


def _histogram(
    name: str, text: str, labels: tuple[str, ...], series: Iterable[tuple[tuple[str, ...], list[float]]]
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, numbers in series:
        *counts, total = numbers
        family.add_metric(values, list(zip(_BOUNDS, accumulate(counts), strict=True)), total)
    return family
