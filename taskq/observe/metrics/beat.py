"""What a beat did, counted from the app's hooks: in ``taskq beat``, and in a worker with ``-B``."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator

from prometheus_client.core import CollectorRegistry, Metric

from taskq.client.app import TaskQ
from taskq.observe.metrics.catalogue import MOST_SCHEDULES, OTHER
from taskq.observe.metrics.snapshot import BUCKETS, Series, Snapshot, families, histogram

OUTCOMES = ("fired", "skipped", "missed")


class BeatMetrics:
    """Counts what the beats of *app* do in this process.

    Args:
        app: whose schedules are fired here.
        registry: where the metrics appear. None: nowhere by itself.
    """

    def __init__(self, app: TaskQ, registry: CollectorRegistry | None = None) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._fires: dict[str, dict[str, int]] = {}
        self._lateness: defaultdict[str, list[float]] = defaultdict(histogram)
        self._skew: float | None = None
        self.changed: Callable[[], object] = lambda: None
        """Called after each change, from the beat's thread; must be quick."""
        app.hooks.listen("schedule_fired", lambda name, queue, at, late: self._fired(name, late))
        app.hooks.listen("schedule_skipped", lambda name, queue, at: self._count(name, "skipped", 1))
        app.hooks.listen("schedule_missed", lambda name, queue, count: self._count(name, "missed", count))
        app.hooks.listen("clock_skew", self._clock)
        if registry is not None:
            registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The metrics as Prometheus families."""
        return families(self.snapshot(), self._app.keys.namespace)

    def snapshot(self) -> Snapshot:
        """The numbers so far, as a copy."""
        with self._lock:
            fires: Series = {
                (name, kind): [float(count)] for name, kinds in self._fires.items() for kind, count in kinds.items()
            }
            lateness: Series = {(name,): list(numbers) for name, numbers in self._lateness.items()}
            skew: Series = {} if self._skew is None else {(): [self._skew]}
        return Snapshot(
            {
                "taskq_scheduler_fires_total": fires,
                "taskq_scheduler_lateness_seconds": lateness,
                "taskq_scheduler_skew_seconds": skew,
            }
        )

    def _fired(self, name: str, late: float) -> None:
        with self._lock:
            numbers = self._lateness[self._label(name)]
            numbers[bisect_left(BUCKETS, late)] += 1
            numbers[-1] += late
        self._count(name, "fired", 1)

    def _count(self, name: str, outcome: str, count: int) -> None:
        with self._lock:
            # all from the start: a rate needs a first sample
            kinds = self._fires.setdefault(self._label(name), dict.fromkeys(OUTCOMES, 0))
            kinds[outcome] += count
        self.changed()

    def _label(self, name: str) -> str:
        """The schedule's label: its name, as long as there are not too many."""
        known = name in self._fires or len(self._fires) < MOST_SCHEDULES or name in self._app.periodic_entries
        return name if known else OTHER

    def _clock(self, ahead: float) -> None:
        self._skew = ahead
        self.changed()
