"""Overview: what waits, what runs, what fails, at a glance."""

from __future__ import annotations

from grafana.generator.expressions import gauge, one, percentiles, quantile, rate, total
from grafana.generator.panels import (
    QUEUE_LINK,
    TASK_LINK,
    Json,
    Line,
    graph,
    line,
    ns_variable,
    numbers,
    queue_variable,
    row,
    stat,
)
from grafana.generator.panels import dashboard as whole

WEEK = 604_800
FAILED = 'ns="$ns",queue=~"$queue",state="FAILURE"'
ENDED = rate("tasks_total", "state")
FAILURES = f"{rate('tasks_total', chosen=FAILED)} / {rate('tasks_total')}"


def dashboard() -> Json:
    """The dashboard to begin with."""
    return whole(
        "overview",
        "overview",
        "What waits, what runs, what fails. Click a line to see its queue or task alone.",
        [ns_variable(), queue_variable()],
        [*_now(), *_flow(), *_queues(), *_latency(), *_trouble()],
    )


def _now() -> list[Line]:
    return [
        row("Now"),
        numbers(
            stat("Redis", 'min(taskq_up{ns="$ns"})', "1 while the exporter reaches Redis.", bad_below=1),
            stat("Backlog", total("backlog"), "To do now: not yet delivered, and delivered but not settled."),
            stat("Oldest waiting", f"max({gauge('oldest_age_seconds')})", "Of the chosen queues.", unit="s"),
            stat(
                "Time to drain",
                f"max(clamp_max({gauge('drain_seconds')}, {WEEK}))",
                "Until the slowest queue is empty if nothing more comes; a week stands for never.",
                unit="s",
                bad_from=WEEK,
            ),
            stat("Dead letters", total("dead"), "Failed for good; `taskq dlq list` shows them.", bad_from=1),
            stat("Workers", 'sum(taskq_workers{ns="$ns"})', "Worker processes with a lease.", bad_below=1),
        ),
    ]


def _flow() -> list[Line]:
    return [
        row("Flow"),
        line(
            graph(
                "Arriving and served",
                [(total("arrival_rate"), "arriving"), (total("service_rate"), "served")],
                "Messages per second that came to the queues, and that left them. Arriving above served: it grows.",
                unit="ops",
            ),
            graph(
                "Deliveries by how they ended",
                ENDED,
                "SUCCESS and FAILURE are final; RETRY runs again; RELEASED was handed back before it ran.",
                legend="{{state}}",
                unit="ops",
                stacked=True,
            ),
            graph(
                "Share that fails for good",
                [(FAILURES, "failed")],
                "Dead letters by all deliveries that ended.",
                unit="percentunit",
            ),
        ),
    ]


def _queues() -> list[Line]:
    return [
        row("Queues"),
        line(
            graph("Backlog", gauge("backlog"), "Lag and pending.", link=QUEUE_LINK),
            graph(
                "Oldest waiting",
                gauge("oldest_age_seconds"),
                "Age of the oldest entry that no worker has yet.",
                unit="s",
                link=QUEUE_LINK,
            ),
            graph(
                "Time to drain",
                f"clamp_max({gauge('drain_seconds')}, {WEEK})",
                "Backlog by service rate; a week stands for never.",
                unit="s",
                link=QUEUE_LINK,
            ),
        ),
    ]


def _latency() -> list[Line]:
    return [
        row("Latency"),
        line(
            graph(
                "Wait",
                percentiles("task_wait_seconds"),
                "From the message's birth in its queue to its start.",
                unit="s",
            ),
            graph("Runtime", percentiles("task_runtime_seconds"), "How long runs took.", unit="s"),
            graph(
                "Runtime by task, p95",
                quantile(0.95, "task_runtime_seconds", "task"),
                "The slowest of them are worth a look.",
                legend="{{task}}",
                unit="s",
                link=TASK_LINK,
            ),
        ),
    ]


def _trouble() -> list[Line]:
    return [
        row("Trouble"),
        line(
            graph(
                "Retries",
                rate("task_retries_total", "task"),
                "Runs that failed and will be tried again. A storm of them is mostly a dependency that is down.",
                legend="{{task}}",
                unit="ops",
                link=TASK_LINK,
            ),
            graph(
                "Crashes and lost leases",
                [
                    (rate("task_crashes_total"), "deaths while running"),
                    (rate("redelivered_total"), "messages taken over"),
                    (rate("lease_lost_total"), "leases lost"),
                ],
                "Workers that died, or were cut off for longer than their lease; what they held ran elsewhere.",
                unit="ops",
            ),
            graph(
                "Redis memory",
                [(one("redis_memory_bytes"), "used"), (one("redis_memory_limit_bytes"), "limit (0: none)")],
                "Full memory stops producers.",
                unit="bytes",
            ),
        ),
    ]
