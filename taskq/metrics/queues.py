"""What is in the queues, read from Redis when Prometheus scrapes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CollectorRegistry, GaugeMetricFamily, Metric

from taskq.app import TaskQ
from taskq.broker.inspect import QueueStats, queue_names, queue_stats
from taskq.errors import BrokerError

logger = logging.getLogger("taskq.metrics")

SCRAPE_DEADLINE = 3.0
"""Seconds for all of one scrape: below Prometheus's own limit of 10, so that an outage is seen as one."""

_GAUGES = {
    "lag": "Entries not yet delivered.",
    "pending": "Delivered to a worker, not settled.",
    "backlog": "All that is to do now: lag and pending.",
    "delayed": "Messages that are not due yet.",
    "dead": "Dead letters.",
    "oldest_age_seconds": "Age of the oldest entry that is not yet delivered; 0 if there is none.",
    "workers": "Workers with a live lease.",
}


class QueueCollector:
    """A Prometheus collector of an app's queues.

    Args:
        app: whose namespace is read; every queue that Redis knows there is included.
        registry: where the metrics appear. None: nowhere by itself.
    """

    def __init__(self, app: TaskQ, registry: CollectorRegistry | None = None) -> None:
        self._app = app
        if registry is not None:
            registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """The metrics without samples, so that registering does not need Redis."""
        yield from _families([])
        yield from _about_scrape(0, 0)

    def collect(self) -> Iterator[Metric]:
        """Read every queue; without Redis only ``taskq_up 0``."""
        began = time.monotonic()
        try:
            stats = self._read(began + SCRAPE_DEADLINE)
        except BrokerError as error:
            logger.warning("cannot read the queues: %s", error)
            yield from _about_scrape(0, time.monotonic() - began)
            return
        yield from _families(stats)
        yield from _about_scrape(1, time.monotonic() - began)

    def _read(self, deadline: float) -> list[QueueStats]:
        broker, keys = self._app.sync_broker, self._app.keys

        def execute(*command: Any) -> Any:
            return broker.execute(*command, deadline=max(deadline - time.monotonic(), 0.0))

        own = {task.settings.queue for task in self._app.tasks.values()}
        return [queue_stats(execute, keys.queue(name)) for name in sorted(own.union(queue_names(execute, keys)))]


def _families(stats: list[QueueStats]) -> Iterator[Metric]:
    for name, text in _GAUGES.items():
        family = GaugeMetricFamily(f"taskq_queue_{name}", text, labels=["queue"])
        for queue in stats:
            value = queue.oldest_age or 0.0 if name == "oldest_age_seconds" else getattr(queue, name)
            family.add_metric([queue.queue], value)
        yield family


def _about_scrape(up: int, seconds: float) -> Iterator[Metric]:
    yield GaugeMetricFamily("taskq_up", "1 if Redis answered this scrape, else 0.", up)
    yield GaugeMetricFamily("taskq_scrape_seconds", "How long reading the queues took.", seconds)
