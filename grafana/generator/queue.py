"""Queue: one queue, or some, with all that is known of them."""

from __future__ import annotations

from grafana.generator.expressions import gauge, percentiles, quantile, rate
from grafana.generator.panels import TASK_LINK, Json, Line, graph, line, ns_variable, numbers, queue_variable, row, stat
from grafana.generator.panels import dashboard as whole

WEEK = 604_800
WAITING = 'max by (queue, task) (taskq_rate_limit_waiting{ns="$ns",queue=~"$queue"})'


def dashboard() -> Json:
    """Choose a queue at the top."""
    return whole(
        "queue",
        "queue",
        "One queue or some: what is in them, how fast it moves, what became of it.",
        [ns_variable(), queue_variable()],
        [*_now(), *_content(), *_speed(), *_what_became_of_it(), *_sending()],
    )


def _now() -> list[Line]:
    return [
        row("Now"),
        numbers(
            stat("Lag", f"sum({gauge('lag')})", "Entries not yet delivered to a worker."),
            stat("Running", f"sum({gauge('running')})", "Runs under way, as workers said a few seconds ago."),
            stat("Workers", f"min({gauge('workers')})", "With a lease; of the queue that has fewest.", bad_below=1),
            stat("Paused", f"sum({gauge('paused')})", "Queues that deliver nothing until resumed.", bad_from=1),
            stat("Dead letters", f"sum({gauge('dead')})", "Failed for good.", bad_from=1),
        ),
    ]


def _content() -> list[Line]:
    return [
        row("Content"),
        line(
            graph("Lag", gauge("lag"), "Entries not yet delivered to a worker."),
            graph("Pending", gauge("pending"), "Delivered, not settled: running, or held ahead by a worker."),
            graph("Backlog", gauge("backlog"), "Lag and pending."),
        ),
        line(
            graph("Delayed", gauge("delayed"), "Not due yet: countdown, eta, and the waits before retries."),
            graph("Parked", gauge("parked"), "Waiting for the rate limit of their task."),
            graph("Parked by task", WAITING, "Which rate limits messages wait for."),
            graph("Dead letters", gauge("dead"), "Messages that failed for good."),
            graph("Oldest waiting", gauge("oldest_age_seconds"), "Of the entries not yet delivered.", unit="s"),
        ),
    ]


def _speed() -> list[Line]:
    return [
        row("Speed"),
        line(
            graph("Arriving", gauge("arrival_rate"), "Messages per second that came.", unit="ops"),
            graph("Served", gauge("service_rate"), "Deliveries per second that left the queue.", unit="ops"),
            graph(
                "Time to drain",
                f"clamp_max({gauge('drain_seconds')}, {WEEK})",
                "Backlog by service rate; a week stands for never.",
                unit="s",
            ),
        ),
        line(
            graph("Wait", percentiles("task_wait_seconds"), "From birth in the queue to start.", unit="s"),
            graph(
                "Wait by queue, p95",
                quantile(0.95, "task_wait_seconds", "queue"),
                "Which of the queues makes its messages wait.",
                unit="s",
            ),
            graph(
                "Running",
                gauge("running"),
                "Runs under way; level at the number of slots, it wants more workers.",
            ),
        ),
    ]


def _what_became_of_it() -> list[Line]:
    return [
        row("What became of it"),
        line(
            graph(
                "By task",
                rate("tasks_total", "task"),
                "Deliveries per second that ended.",
                legend="{{task}}",
                unit="ops",
                stacked=True,
                link=TASK_LINK,
            ),
            graph(
                "By how they ended",
                rate("tasks_total", "state"),
                "FAILURE is a dead letter; RETRY runs again.",
                legend="{{state}}",
                unit="ops",
                stacked=True,
            ),
            graph(
                "Unknown tasks",
                rate("unknown_tasks_total", "queue"),
                "Handed back because the worker does not know the task: usual during a deploy only.",
                unit="ops",
            ),
        ),
    ]


def _sending() -> list[Line]:
    return [
        row("Sending"),
        line(
            graph("Sent", rate("enqueued_total", "queue"), "By processes that expose it.", unit="ops"),
            graph("Time to send, p95", quantile(0.95, "enqueue_seconds", "queue"), "Of one call.", unit="s"),
            graph("Calls that raised", rate("enqueue_errors_total", "queue"), "Redis was away.", unit="ops"),
        ),
    ]
