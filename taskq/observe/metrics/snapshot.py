"""The numbers of one process as plain data: summed over processes, and shown to Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.samples import Exemplar

from taskq.observe.metrics.catalogue import NAMESPACE, SPECS, bounded

BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0),
)
"""Upper bounds in seconds of all histograms."""
_BOUNDS = [*(repr(bound) for bound in BUCKETS), "+Inf"]

Labels = tuple[str, ...]
Series = dict[Labels, list[float]]
Numbers = dict[str, Series]


class Snapshot(msgspec.Struct):
    """What a process has counted."""

    numbers: Numbers = {}
    """Metric -> label values -> numbers. A counter or gauge: ``[value]``. A histogram: the count of each bucket, the
    count of what is beyond the last one, and the sum."""
    exemplars: dict[str, dict[Labels, dict[int, tuple[str, float, float]]]] = {}
    """Metric -> label values -> bucket -> trace id, value and epoch seconds of the last one that was traced."""

    def merge(self, part: Snapshot) -> None:
        """Add *part*. Of a gauge the larger value is kept: what processes share is not there several times."""
        for name, series in part.numbers.items():
            into = self.numbers.setdefault(name, {})
            join = _larger if SPECS[name].kind == "gauge" else _sum
            for labels, values in series.items():
                known = into.get(labels)
                into[labels] = list(values) if known is None else join(known, values)
        for name, traced in part.exemplars.items():
            for labels, buckets in traced.items():
                self.exemplars.setdefault(name, {}).setdefault(labels, {}).update(buckets)

    def without_gauges(self) -> Snapshot:
        """What stays of a process that has ended."""
        kept = {name: series for name, series in self.numbers.items() if SPECS[name].kind != "gauge"}
        return Snapshot(kept, self.exemplars)


def histogram() -> list[float]:
    """The numbers of a histogram that nothing was counted in."""
    return [0.0] * (len(BUCKETS) + 2)


def families(snapshot: Snapshot, ns: str) -> Iterator[Metric]:
    """Every metric of *snapshot*, those without numbers too, so that a scrape always shows what there is."""
    for name, series in snapshot.numbers.items():
        spec = SPECS[name]
        labels = (NAMESPACE, *spec.labels)
        if spec.kind == "histogram":
            yield _histogram(HistogramMetricFamily(name, spec.text, labels=labels), snapshot, ns)
            continue
        kind = CounterMetricFamily if spec.kind == "counter" else GaugeMetricFamily
        family = kind(name, spec.text, labels=labels)
        join = _larger if spec.kind == "gauge" else _sum
        for values, (value,) in bounded(series.items(), join):
            family.add_metric((ns, *values), value)
        yield family


def _histogram(family: HistogramMetricFamily, snapshot: Snapshot, ns: str) -> Metric:
    traced = snapshot.exemplars.get(family.name, {})
    for values, numbers in bounded(snapshot.numbers[family.name].items(), _sum):
        *counts, total = numbers
        traces = traced.get(tuple(values), {})
        buckets = [
            (bound, count, _exemplar(*traces[index])) if index in traces else (bound, count)
            for index, (bound, count) in enumerate(zip(_BOUNDS, accumulate(counts), strict=True))
        ]
        family.add_metric((ns, *values), buckets, total)
    return family


def _exemplar(trace: str, value: float, at: float) -> Exemplar:
    return Exemplar({"trace_id": trace}, value, at)


def _sum(known: list[float], values: list[float]) -> list[float]:
    return [a + b for a, b in zip(known, values, strict=True)]


def _larger(known: list[float], values: list[float]) -> list[float]:
    return [max(a, b) for a, b in zip(known, values, strict=True)]
