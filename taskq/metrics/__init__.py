"""Prometheus metrics: what is in Redis, what workers and beats did, what was sent. ``docs/metrics.md`` lists them.

:mod:`taskq.metrics.catalogue` declares every metric. What is in Redis belongs to no worker: expose it in one place
(``taskq metrics``), or sums over instances count it several times.

``import taskq`` does not import this package; ``prometheus_client`` is loaded only by who wants metrics.
"""

from taskq.metrics.beat import BeatMetrics
from taskq.metrics.endpoint import Endpoint, serve
from taskq.metrics.exporter import Exporter
from taskq.metrics.sender import SenderMetrics
from taskq.metrics.shared import ChildrenCollector, SharedMetrics, aggregate
from taskq.metrics.worker import WorkerMetrics

__all__ = [
    "BeatMetrics",
    "ChildrenCollector",
    "Endpoint",
    "Exporter",
    "SenderMetrics",
    "SharedMetrics",
    "WorkerMetrics",
    "aggregate",
    "serve",
]
