"""Prometheus metrics: what is in Redis, what workers and beats did, what was sent. ``docs/metrics.md`` lists them.

:mod:`taskq.observe.metrics.catalogue` declares every metric. What is in Redis belongs to no worker: expose it in one
place (``taskq metrics``), or sums over instances count it several times.

``import taskq`` does not import this package; ``prometheus_client`` is loaded only by who wants metrics.
"""

from taskq.observe.metrics.beat import BeatMetrics
from taskq.observe.metrics.endpoint import Endpoint, serve
from taskq.observe.metrics.exporter import Exporter
from taskq.observe.metrics.sender import SenderMetrics
from taskq.observe.metrics.shared import ChildrenCollector, SharedMetrics, aggregate
from taskq.observe.metrics.worker import WorkerMetrics

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
