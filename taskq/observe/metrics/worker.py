"""What a worker process did, counted from the app's hooks.

Outcomes arrive in batches at up to a hundred thousand a second, so they are counted in plain lists and become
Prometheus samples when somebody scrapes. (``Histogram.observe`` alone costs more per task than all of this.) Of more
than 16 that end together every eighth run stands for its neighbours in the buckets; counts and the sum of the runtimes
are exact.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CollectorRegistry, Metric

from taskq.client.app import TaskQ
from taskq.client.hooks import Settled, Unusual
from taskq.observe.metrics.beat import BeatMetrics
from taskq.observe.metrics.catalogue import CATALOGUE, WORKER
from taskq.observe.metrics.sender import SenderMetrics
from taskq.observe.metrics.snapshot import BUCKETS, Snapshot, families, histogram

_RUN = ("runtime", "wait", "punctuality")
_REMOVED = "taskq_dlq_removed_total"
_BY_QUEUE = ("taskq_redelivered_total", "taskq_lease_lost_total", "taskq_unknown_tasks_total", _REMOVED)


class _Series:
    """The numbers of one task in one queue."""

    __slots__ = ("crashes", "exemplars", "punctuality", "runtime", "starts", "states", "wait")

    def __init__(self) -> None:
        self.states: defaultdict[str, int] = defaultdict(int)
        self.runtime = histogram()
        self.wait = histogram()
        self.punctuality = histogram()
        self.crashes = 0
        self.starts = 0
        self.exemplars: dict[str, dict[int, tuple[str, float, float]]] = {}

    def note(self, unusual: Unusual) -> None:
        """Count one that is out of the ordinary."""
        self.crashes += unusual.crashes
        if unusual.late is not None:
            _observe(self.punctuality, unusual.late)
        if unusual.trace:
            now = time.time()
            for kind, value in (("runtime", unusual.runtime), ("wait", unusual.wait)):
                self.exemplars.setdefault(kind, {})[bisect_left(BUCKETS, value)] = (unusual.trace, value, now)


class WorkerMetrics:
    """Counts what the workers of *app* do in this process, what it sends, and what a beat in it fires.

    Args:
        app: whose workers run here.
        registry: where the metrics appear, such as ``prometheus_client.REGISTRY``. None: nowhere by itself.
    """

    def __init__(self, app: TaskQ, registry: CollectorRegistry | None = None) -> None:
        self._app = app
        self._tasks = app.tasks
        self._lock = threading.Lock()
        self._series: dict[tuple[str, str], _Series] = {}
        self._by_queue: dict[str, defaultdict[tuple[str, ...], int]] = {name: defaultdict(int) for name in _BY_QUEUE}
        self._round_trips = histogram()
        self._sender = SenderMetrics(app)
        self._beat = BeatMetrics(app)
        self._beat.changed = self._tell
        self.changed: Callable[[], object] | None = None
        """Called after each change, from the thread that made it; must be quick."""
        hooks = app.hooks
        hooks.listen("settled", self._settled)
        hooks.listen("recovered", lambda queue, count: self._count("taskq_redelivered_total", queue, count))
        hooks.listen("lease_lost", lambda queue: self._count("taskq_lease_lost_total", queue))
        hooks.listen("unknown_task", lambda queue, task: self._count("taskq_unknown_tasks_total", queue))
        hooks.listen("dlq_removed", lambda queue, reason, count: self._count(_REMOVED, queue, count, reason))
        hooks.listen("renewed", self._renewed)
        if registry is not None:
            registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The metrics as Prometheus families."""
        return families(self.snapshot(), self._app.keys.namespace)

    def snapshot(self) -> Snapshot:
        """The numbers so far, as a copy."""
        found = self._sender.snapshot()
        found.merge(self._beat.snapshot())
        numbers = found.numbers
        numbers |= {spec.name: {} for spec in CATALOGUE if spec.place == WORKER}
        queues = {task.settings.queue for task in list(self._tasks.values())}
        with self._lock:
            for name, counts in self._by_queue.items():
                if name != _REMOVED:
                    for queue in queues:
                        counts[queue,] += 0  # there from the start: a rate needs a first sample
                numbers[name] = {labels: [count] for labels, count in counts.items()}
            numbers["taskq_broker_roundtrip_seconds"][()] = list(self._round_trips)
            for labels, series in self._series.items():
                for state, count in series.states.items():
                    numbers["taskq_tasks_total"][*labels, state] = [count]
                numbers["taskq_task_starts_total"][labels] = [series.starts]
                numbers["taskq_task_retries_total"][labels] = [series.states.get("RETRY", 0)]
                numbers["taskq_task_crashes_total"][labels] = [series.crashes]
                for kind in _RUN:
                    numbers[f"taskq_task_{kind}_seconds"][labels] = list(getattr(series, kind))
                for kind, traced in series.exemplars.items():
                    found.exemplars.setdefault(f"taskq_task_{kind}_seconds", {})[labels] = dict(traced)
        return found

    def _settled(self, batch: Sequence[Settled]) -> None:
        with self._lock:
            for group in batch:
                series = self._of(group.task, group.queue)
                series.states[group.state] += group.ended
                series.starts += group.started
                _spread(series.runtime, [runtime for runtime, _ in group.times], group)
                _spread(series.wait, [wait for _, wait in group.times], group)
                series.runtime[-1] += group.runtime
                series.wait[-1] += sum(wait for _, wait in group.times) * group.started / max(len(group.times), 1)
                for unusual in group.unusual:
                    series.note(unusual)
        self._tell()

    def _of(self, task: str, queue: str) -> _Series:
        series = self._series.get((task, queue))
        if series is None:
            series = self._series[task, queue] = _Series()
        return series

    def _renewed(self, seconds: float) -> None:
        with self._lock:
            _observe(self._round_trips, seconds)
        self._tell()

    def _count(self, name: str, queue: str, count: int = 1, *more: str) -> None:
        with self._lock:
            self._by_queue[name][queue, *more] += count
        self._tell()

    def _tell(self) -> None:
        if self.changed is not None:
            self.changed()


def _spread(numbers: list[float], values: Sequence[float], group: Settled) -> None:
    """Put *values* into their buckets, each for as many as it stands for."""
    left = group.started
    for value in values:
        numbers[bisect_left(BUCKETS, value)] += min(group.each, left)
        left -= group.each


def _observe(numbers: list[float], value: float) -> None:
    value = max(value, 0.0)
    numbers[bisect_left(BUCKETS, value)] += 1
    numbers[-1] += value
