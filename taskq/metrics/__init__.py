"""Prometheus metrics: what workers did, and what is in the queues.

==================================  =========  ==================  ========================================
name                                type       labels              meaning
==================================  =========  ==================  ========================================
``taskq_tasks_total``               counter    task, queue, state  deliveries that ended, by how they ended
``taskq_task_retries_total``        counter    task, queue         runs that failed and will be tried again
``taskq_task_runtime_seconds``      histogram  task, queue         how long runs took
``taskq_task_wait_seconds``         histogram  task, queue         from birth in the queue to start
``taskq_redelivered_total``         counter    queue               messages taken over from dead workers
``taskq_lease_lost_total``          counter    queue               times a worker lost its own lease
``taskq_unknown_tasks_total``       counter    queue               messages handed back: no such task here
``taskq_queue_lag``                 gauge      queue               entries not yet delivered
``taskq_queue_pending``             gauge      queue               delivered, not settled
``taskq_queue_backlog``             gauge      queue               lag and pending
``taskq_queue_delayed``             gauge      queue               messages that are not due yet
``taskq_queue_dead``                gauge      queue               dead letters
``taskq_queue_oldest_age_seconds``  gauge      queue               of the oldest entry not yet delivered
``taskq_queue_workers``             gauge      queue               workers with a live lease
``taskq_up``                        gauge      -                   1 if Redis answered this scrape, else 0
``taskq_scrape_seconds``            gauge      -                   how long reading the queues took
==================================  =========  ==================  ========================================

The queue gauges belong to Redis, not to a worker: expose them in one place (``taskq metrics``), or sums over
instances count them several times. Labels are bounded: a task name that the app does not know counts as
``other``.

``import taskq`` does not import this package; ``prometheus_client`` is loaded only by who wants metrics.
"""

from taskq.metrics.endpoint import Endpoint, serve
from taskq.metrics.queues import QueueCollector
from taskq.metrics.shared import ChildrenCollector, SharedMetrics, aggregate
from taskq.metrics.worker import WorkerMetrics

__all__ = [
    "ChildrenCollector",
    "Endpoint",
    "QueueCollector",
    "SharedMetrics",
    "WorkerMetrics",
    "aggregate",
    "serve",
]
