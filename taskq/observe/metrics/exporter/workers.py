"""Workers: what they say of themselves, and whether they live."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from prometheus_client.core import Metric

from taskq.broker.views.workers import WorkerInfo, WorkerRecord, read_steps
from taskq.observe.metrics.catalogue import Row, gauges
from taskq.observe.metrics.exporter.subject import Moment, Steps


class WorkerSubject:
    """The gauges of every worker process; the label is ``host:pid``."""

    def read(self, moment: Moment) -> Steps:
        workers = yield from read_steps(moment.keys, moment.queues)
        return _metrics(moment.keys.namespace, moment.queues, workers)


def _metrics(ns: str, queues: Collection[str], workers: Collection[WorkerInfo]) -> list[Metric]:
    told = {label(worker): (worker, worker.recent) for worker in workers if worker.recent is not None}
    records: dict[str, WorkerRecord] = {name: record for name, (_, record) in told.items()}
    running: Counter[str] = Counter()
    for record in records.values():
        running.update(record.busy_by_queue)
    versions = Counter(worker.recent.version if worker.recent else "unknown" for worker in workers)
    slots: list[Row] = [((name, "ordinary"), record.slots) for name, record in records.items()]
    slots += [((name, "async"), record.async_slots) for name, record in records.items()]
    ages = [((name,), worker.heartbeat_age or 0.0) for name, (worker, _) in told.items()]
    by_worker: dict[str, list[Row]] = {
        "busy_slots": [((name,), record.busy) for name, record in records.items()],
        "held": [((name,), record.held) for name, record in records.items()],
        "rss_bytes": [((name,), record.rss) for name, record in records.items()],
        "start_time_seconds": [((name,), record.started_at / 1000) for name, record in records.items()],
    }
    return [
        gauges("taskq_queue_running", ns, (((queue,), running[queue]) for queue in queues)),
        gauges("taskq_workers", ns, (((version,), count) for version, count in versions.items())),
        gauges("taskq_worker_slots", ns, slots),
        gauges("taskq_worker_heartbeat_age_seconds", ns, ages),
        *(gauges(f"taskq_worker_{name}", ns, rows) for name, rows in by_worker.items()),
    ]


def label(worker: WorkerInfo) -> str:
    """``host:pid``: what a restart in place keeps, or at least does not make longer."""
    return worker.name.rpartition(":")[0]
