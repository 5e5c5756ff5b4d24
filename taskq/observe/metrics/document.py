"""Writes ``docs/metrics.md`` from the catalogue: ``python -m taskq.observe.metrics.document docs/metrics.md``."""

from __future__ import annotations

import sys
from pathlib import Path

from taskq.observe.metrics.catalogue import CATALOGUE, PLACES
from taskq.observe.metrics.snapshot import BUCKETS

_HEAD = """# Metrics

Every Prometheus metric of taskq. This page is written by `python -m taskq.observe.metrics.document docs/metrics.md`;
edit [`taskq/observe/metrics/catalogue.py`](../taskq/observe/metrics/catalogue.py).

All have the label `ns`, the namespace. (Not `namespace`: under Kubernetes that is where the pod runs.) Values of labels
are bounded: a task name that the app does not know counts as `other`, as does what a metric has beyond 1,000 values
(the largest of gauges, the sum of counters and histograms), and no label holds a task id. What is in Redis is
exposed in one place, or sums over instances count it several times. The label `worker` is `host:pid`.

Dashboards, rules and alerts are in [`grafana/`](../grafana/README.md), what to do about an alert in
[`runbooks/`](runbooks/no-worker.md).
"""

_TAIL = f"""
All histograms have the upper bounds {", ".join(f"{bound:g}" for bound in BUCKETS)} seconds.

The states of `taskq_tasks_total` are those of the [glossary](glossary.md), and RELEASED: handed back without having
run. A message that carries a `traceparent` header leaves its trace id as an exemplar in the runtime and wait histograms
(OpenMetrics; switch on Prometheus's `exemplar-storage`).
"""


def text() -> str:
    """The page."""
    parts = [_HEAD]
    for place, title in PLACES.items():
        specs = [spec for spec in CATALOGUE if spec.place == place]
        if specs:
            parts += [f"\n## {title}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n"]
        for spec in specs:
            labels = ", ".join(f"`{label}`" for label in spec.labels)
            parts.append(f"| `{spec.name}` | {spec.kind} | {labels} | {spec.text} |\n")
    return "".join([*parts, _TAIL])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(), "utf-8")
