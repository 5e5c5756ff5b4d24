"""What a worker process did, counted from the app's hooks.

Outcomes arrive in batches at up to a hundred thousand a second, so they are counted in plain lists and become
Prometheus samples when somebody scrapes. (``Histogram.observe`` alone costs more per task than all of this.)
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CollectorRegistry, Metric

from taskq.app import TaskQ
from taskq.hooks import Settled
from taskq.metrics.snapshot import BUCKETS, Snapshot, families

OTHER = "other"
"""The task label of every name that the app does not know."""


class _Series:
    """The numbers of one task in one queue."""

    __slots__ = ("runtime", "states", "wait")

    def __init__(self) -> None:
        self.states: defaultdict[str, int] = defaultdict(int)
        self.runtime = [0.0] * (len(BUCKETS) + 2)
        self.wait = [0.0] * (len(BUCKETS) + 2)


class WorkerMetrics:
    """Counts what the hooks of *app* tell of this process.

    Args:
        app: whose workers run here.
        registry: where the metrics appear, such as ``prometheus_client.REGISTRY``. None: nowhere by itself.
    """

    def __init__(self, app: TaskQ, registry: CollectorRegistry | None = None) -> None:
        self._tasks = app.tasks
        self._lock = threading.Lock()
        self._series: dict[tuple[str, str], _Series] = {}
        self._by_queue: dict[str, defaultdict[str, int]] = {
            name: defaultdict(int) for name in ("taskq_redelivered", "taskq_lease_lost", "taskq_unknown_tasks")
        }
        self.changed: Callable[[], object] | None = None
        """Called after each change, from the thread that made it; must be quick."""
        app.hooks.listen("settled", self._settled)
        app.hooks.listen("recovered", lambda queue, count: self._count("taskq_redelivered", queue, count))
        app.hooks.listen("lease_lost", lambda queue: self._count("taskq_lease_lost", queue))
        app.hooks.listen("unknown_task", lambda queue, task: self._count("taskq_unknown_tasks", queue))
        if registry is not None:
            registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The metrics as Prometheus families."""
        return families(self.snapshot())

    def snapshot(self) -> Snapshot:
        """The numbers so far, as a copy."""
        with self._lock:
            found: Snapshot = {
                name: {(queue,): [count] for queue, count in counts.items()} for name, counts in self._by_queue.items()
            }
            found |= {"taskq_tasks": {}, "taskq_task_retries": {}}
            found |= {"taskq_task_runtime_seconds": {}, "taskq_task_wait_seconds": {}}
            for labels, series in self._series.items():
                found["taskq_task_runtime_seconds"][labels] = list(series.runtime)
                found["taskq_task_wait_seconds"][labels] = list(series.wait)
                for state, count in series.states.items():
                    found["taskq_tasks"][*labels, state] = [count]
                found["taskq_task_retries"][labels] = [series.states.get("RETRY", 0)]
        return found

    def _settled(self, batch: Sequence[Settled]) -> None:
        task_before = queue_before = None
        with self._lock:
            for task, queue, state, runtime, wait in batch:
                if task != task_before or queue != queue_before:
                    series = self._of(task, queue)
                    states, runtimes, waits = series.states, series.runtime, series.wait
                    task_before, queue_before = task, queue
                states[state] += 1
                if runtime > 0:  # else it did not start
                    runtimes[bisect_left(BUCKETS, runtime)] += 1
                    runtimes[-1] += runtime
                    waits[bisect_left(BUCKETS, wait)] += 1
                    if wait > 0:  # below zero: the clocks of this host and of Redis differ
                        waits[-1] += wait
        if self.changed is not None:
            self.changed()

    def _of(self, task: str, queue: str) -> _Series:
        labels = (task if task in self._tasks else OTHER, queue)
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = _Series()
        return series

    def _count(self, name: str, queue: str, count: int = 1) -> None:
        with self._lock:
            self._by_queue[name][queue] += count
        if self.changed is not None:
            self.changed()
