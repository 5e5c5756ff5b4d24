"""What a process sends, counted from the app's hooks. Workers count it too; other processes make one of these."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator

from prometheus_client.core import CollectorRegistry, Metric

from taskq.client.app import TaskQ
from taskq.observe.metrics.catalogue import known_or_other
from taskq.observe.metrics.snapshot import BUCKETS, Snapshot, families, histogram


class SenderMetrics:
    """Counts what *app* sends in this process: in a web process, ``SenderMetrics(app, prometheus_client.REGISTRY)``.

    Args:
        app: that sends.
        registry: where the metrics appear. None: nowhere by itself.
    """

    def __init__(self, app: TaskQ, registry: CollectorRegistry | None = None) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._seconds: defaultdict[str, list[float]] = defaultdict(histogram)
        self._messages: defaultdict[str, int] = defaultdict(int)
        self._errors: defaultdict[str, int] = defaultdict(int)
        app.hooks.listen("sent", self._sent)
        app.hooks.listen("send_failed", self._failed)
        if registry is not None:
            registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The metrics as Prometheus families."""
        return families(self.snapshot(), self._app.keys.namespace)

    def snapshot(self) -> Snapshot:
        """The numbers so far, as a copy."""
        sender = self._app.sender
        with self._lock:
            numbers: dict[str, dict[tuple[str, ...], list[float]]] = {
                "taskq_enqueue_seconds": {(queue,): list(numbers) for queue, numbers in self._seconds.items()},
                "taskq_enqueued_total": {(queue,): [count] for queue, count in self._messages.items()},
                "taskq_enqueue_errors_total": {(queue,): [count] for queue, count in self._errors.items()},
            }
        numbers["taskq_enqueue_dropped_total"] = {(): [sender.dropped]}
        numbers["taskq_enqueue_spooled"] = {(): [0 if sender.spool is None else len(sender.spool)]}
        return Snapshot(numbers)

    def _sent(self, queue: str, count: int, seconds: float) -> None:
        with self._lock:
            queue = known_or_other(queue, self._errors)
            numbers = self._seconds[queue]
            numbers[bisect_left(BUCKETS, seconds)] += 1
            numbers[-1] += seconds
            self._messages[queue] += count
            self._errors[queue] += 0  # there from the start: a rate needs a first sample

    def _failed(self, queue: str) -> None:
        with self._lock:
            self._errors[known_or_other(queue, self._errors)] += 1
