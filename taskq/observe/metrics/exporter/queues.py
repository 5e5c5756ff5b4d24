"""Queues: what is in them, and how fast it moves."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from prometheus_client.core import Metric

from taskq.broker.views.survey import QueueView, read_steps
from taskq.observe.metrics.catalogue import gauges
from taskq.observe.metrics.exporter.subject import Moment, Steps

WINDOW = 60.0
"""Seconds over which the growth of a backlog is taken, at least where there are scrapes as old."""


class QueueSubject:
    """The gauges of every queue."""

    def __init__(self) -> None:
        self._before: deque[tuple[float, dict[str, int]]] = deque()

    def read(self, moment: Moment) -> Steps:
        views = yield from read_steps([moment.keys.queue(name) for name in moment.queues])
        return self._metrics(moment.keys.namespace, views, self._arrivals(moment.now, views))

    def _arrivals(self, now: float, views: Sequence[QueueView]) -> dict[str, float]:
        """Messages per second that came to each queue: those that left, and what the backlog has grown by."""
        before = self._before
        before.append((now, {view.stats.queue: view.stats.backlog for view in views}))
        while len(before) > 1 and before[1][0] <= now - WINDOW:
            before.popleft()
        since, backlogs = before[0]
        found = {}
        for view in views:
            queue, backlog = view.stats.queue, view.stats.backlog
            growth = (backlog - backlogs.get(queue, 0)) / (now - since) if now > since else 0.0
            found[queue] = max(view.service_rate + growth, 0.0)
        return found

    def _metrics(self, ns: str, views: Sequence[QueueView], arrivals: dict[str, float]) -> list[Metric]:
        rows: dict[str, list[float]] = {
            "lag": [view.stats.lag for view in views],
            "pending": [view.stats.pending for view in views],
            "parked": [view.stats.parked for view in views],
            "backlog": [view.stats.backlog for view in views],
            "delayed": [view.stats.delayed for view in views],
            "dead": [view.stats.dead for view in views],
            "oldest_age_seconds": [view.stats.oldest_age or 0.0 for view in views],
            "workers": [view.stats.workers for view in views],
            "paused": [float(view.stats.paused) for view in views],
            "service_rate": [view.service_rate for view in views],
            "arrival_rate": [arrivals[view.stats.queue] for view in views],
            "drain_seconds": [view.drain_seconds for view in views],
        }
        queues = [(view.stats.queue,) for view in views]
        return [gauges(f"taskq_queue_{name}", ns, zip(queues, values, strict=True)) for name, values in rows.items()]
