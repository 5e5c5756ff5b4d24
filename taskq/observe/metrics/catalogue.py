"""Every metric: name, kind, labels and meaning. Collectors build their families here, ``docs/metrics.md`` is its text.

All have the label ``ns``, the namespace. (Not ``namespace``: under Kubernetes that is where the pod runs.) Values of
labels are bounded: a task name that the app does not know counts as ``other``, as does what a metric has beyond
:data:`MOST_SERIES`, and no label holds a task id.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

EXPORTER, WORKER, SENDER, BEAT = "exporter", "worker", "sender", "beat"
PLACES = {
    EXPORTER: "What is in Redis: `taskq metrics`, read at each scrape",
    WORKER: "What a worker did: `taskq worker --metrics-port`",
    SENDER: "What a process sent: workers, and every process that makes a `SenderMetrics`",
    BEAT: "What a beat did: `taskq beat --metrics-port`, and workers with `-B`",
}
NAMESPACE = "ns"
OTHER = "other"
"""Value of a label for all that would make too many series."""
MOST_SERIES = 1000
"""Label values of any other metric, at most: names of queues and tasks come from users too."""
MOST_SCHEDULES = 200
"""Schedules with series of their own; those that are defined at runtime may be one for each customer."""

Row = tuple[Sequence[str], float]
"""Values of the labels after ``ns``, and the sample."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One metric."""

    name: str
    """As Prometheus stores it; a histogram without ``_bucket``, ``_sum`` and ``_count``."""
    kind: str
    labels: tuple[str, ...]
    """After ``ns``."""
    text: str
    place: str


def _specs(place: str, *rows: tuple[str, str, str, str]) -> list[Spec]:
    return [Spec(f"taskq_{name}", kind, tuple(labels.split()), text, place) for name, kind, labels, text in rows]


CATALOGUE: tuple[Spec, ...] = (
    *_specs(
        EXPORTER,
        ("queue_lag", "gauge", "queue", "Entries not yet delivered to a worker."),
        ("queue_pending", "gauge", "queue", "Delivered to a worker, not settled; running or held ahead."),
        ("queue_parked", "gauge", "queue", "Messages that wait for the rate limit of their task."),
        ("rate_limit_waiting", "gauge", "queue task", "Messages of a task that wait for its rate limit."),
        ("queue_backlog", "gauge", "queue", "All that is to do now: lag, pending and parked."),
        ("queue_running", "gauge", "queue", "Runs under way, as workers said a few seconds ago."),
        ("queue_delayed", "gauge", "queue", "Messages that are not due yet: countdown, eta, retries."),
        ("queue_dead", "gauge", "queue", "Dead letters: messages that failed for good."),
        ("queue_oldest_age_seconds", "gauge", "queue", "Age of the oldest entry not yet delivered; 0 without one."),
        ("queue_workers", "gauge", "queue", "Workers with a live lease."),
        ("queue_paused", "gauge", "queue", "1 while nothing of it is delivered."),
        ("queue_service_rate", "gauge", "queue", "Deliveries that left the queue per second, over one to two minutes."),
        ("queue_arrival_rate", "gauge", "queue", "Messages that came per second: service rate and growth of backlog."),
        ("queue_drain_seconds", "gauge", "queue", "Backlog by service rate; +Inf where nothing is served."),
        ("workers", "gauge", "version", "Worker processes by the release of taskq that they run."),
        ("worker_slots", "gauge", "worker kind", "Places to run a task, for kind ordinary and async."),
        ("worker_busy_slots", "gauge", "worker", "Runs under way."),
        ("worker_held", "gauge", "worker", "Deliveries fetched and not settled."),
        ("worker_rss_bytes", "gauge", "worker", "Resident memory, child processes included."),
        (
            "worker_heartbeat_age_seconds",
            "gauge",
            "worker",
            "Seconds since it last renewed its leases.",
        ),
        ("worker_start_time_seconds", "gauge", "worker", "When it started, in epoch seconds."),
        ("beats", "gauge", "", "Beats with a live lease."),
        ("schedules", "gauge", "state", "Schedules by what they are: on, paused, no beat, overdue, retired or ended."),
        ("schedule_overdue_seconds", "gauge", "schedule", "How long a fire time has waited for a beat; 0 without one."),
        ("schedule_paused", "gauge", "schedule", "1 while it does not fire."),
        ("schedule_held", "gauge", "schedule", "Messages held back until the one before them has ended."),
        ("schedule_next_fire_time_seconds", "gauge", "schedule", "The next fire time, in epoch seconds."),
        ("schedule_last_fire_time_seconds", "gauge", "schedule", "The last fire time, in epoch seconds."),
        ("schedule_last_lateness_seconds", "gauge", "schedule", "How late the last fire was."),
        ("topic_published_total", "counter", "topic", "Events ever published."),
        ("topic_kept", "gauge", "topic", "Events that can still be read."),
        ("group_lag", "gauge", "topic group", "Events that no worker of the group has yet."),
        ("group_pending", "gauge", "topic group", "Delivered to a worker of the group, not settled."),
        ("group_delayed", "gauge", "topic group", "Waiting for a retry."),
        ("group_dead", "gauge", "topic group", "Dead letters of the group."),
        ("group_workers", "gauge", "topic group", "Workers with a live lease."),
        ("group_age_seconds", "gauge", "topic group", "Age of the oldest event that no worker has yet; 0 without one."),
        ("group_trimmed_unread_total", "counter", "topic group", "Events dropped by limits before the group saw them."),
        ("redis_memory_bytes", "gauge", "", "Memory that Redis uses."),
        ("redis_memory_limit_bytes", "gauge", "", "Redis's maxmemory; 0 without a limit."),
        ("redis_clients", "gauge", "", "Connections to Redis, of anybody."),
        ("redis_commands_total", "counter", "", "Commands that Redis executed, inside scripts too, of anybody."),
        ("redis_evicted_keys_total", "counter", "", "Keys that Redis threw away for want of memory: lost tasks."),
        ("up", "gauge", "", "1 if Redis answered this scrape, else 0."),
        ("scrape_seconds", "gauge", "", "How long reading Redis took."),
        ("scrape_round_trips", "gauge", "", "How often Redis was asked for it."),
    ),
    *_specs(
        WORKER,
        ("tasks_total", "counter", "task queue state", "Deliveries that ended, by how. FAILURE is a dead letter."),
        ("task_starts_total", "counter", "task queue", "Runs that began and have ended."),
        ("task_retries_total", "counter", "task queue", "Runs that failed and will be tried again."),
        ("task_crashes_total", "counter", "task queue", "Deaths of a process that ran the task."),
        ("task_runtime_seconds", "histogram", "task queue", "How long runs took."),
        ("task_wait_seconds", "histogram", "task queue", "From the message's birth in its queue to its start."),
        (
            "task_punctuality_seconds",
            "histogram",
            "task queue",
            "From the time asked for (eta, schedule) to the start.",
        ),
        ("redelivered_total", "counter", "queue", "Messages taken over from dead workers."),
        ("lease_lost_total", "counter", "queue", "Times a worker lost its own lease."),
        ("dlq_removed_total", "counter", "queue reason", "Dead letters deleted by a retention, for age or count."),
        ("unknown_tasks_total", "counter", "queue", "Messages handed back: this worker does not know their task."),
        ("broker_roundtrip_seconds", "histogram", "", "From a renewal of the lease to Redis's answer."),
    ),
    *_specs(
        SENDER,
        ("enqueue_seconds", "histogram", "queue", "How long sending took, of one call with any number of messages."),
        ("enqueued_total", "counter", "queue", "Messages that were accepted, by Redis or the spool."),
        ("enqueue_errors_total", "counter", "queue", "Calls that raised: Redis could not be reached, or refused."),
        ("enqueue_dropped_total", "counter", "", "Messages let go because their task may be dropped in an outage."),
        ("enqueue_spooled", "gauge", "", "Messages that wait in the spool on local disk."),
    ),
    *_specs(
        BEAT,
        ("scheduler_fires_total", "counter", "schedule outcome", "Fire times that were fired, skipped or missed."),
        ("scheduler_lateness_seconds", "histogram", "schedule", "From a fire time to its firing."),
        ("scheduler_skew_seconds", "gauge", "", "How far this host's clock is ahead of Redis's."),
    ),
)
SPECS = {spec.name: spec for spec in CATALOGUE}


V = TypeVar("V")


def known_or_other(name: str, known: Mapping[str, object]) -> str:
    """*name* as a label: :data:`OTHER` when *known* has as many names as a metric may have."""
    return name if name in known or len(known) < MOST_SERIES else OTHER


def bounded(rows: Iterable[tuple[Sequence[str], V]], join: Callable[[V, V], V]) -> list[tuple[Sequence[str], V]]:
    """The first :data:`MOST_SERIES` of *rows*, and one row that joins what is beyond."""
    kept = list(rows)
    if len(kept) <= MOST_SERIES:
        return kept
    beyond = kept[MOST_SERIES:]
    labels = (OTHER,) * len(beyond[0][0])
    return [*kept[:MOST_SERIES], (labels, functools.reduce(join, (value for _, value in beyond)))]


def gauges(name: str, ns: str, rows: Iterable[Row]) -> Metric:
    """A gauge of the catalogue with its samples."""
    spec = SPECS[name]
    family = GaugeMetricFamily(name, spec.text, labels=(NAMESPACE, *spec.labels))
    for values, sample in bounded(rows, max):
        family.add_metric((ns, *values), sample)
    return family


def counters(name: str, ns: str, rows: Iterable[Row]) -> Metric:
    """A counter of the catalogue with its samples."""
    spec = SPECS[name]
    family = CounterMetricFamily(name, spec.text, labels=(NAMESPACE, *spec.labels))
    for values, sample in bounded(rows, operator.add):
        family.add_metric((ns, *values), sample)
    return family
