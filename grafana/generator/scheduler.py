"""Scheduler and dead letters: what should have happened, and what failed for good."""

from __future__ import annotations

from grafana.generator.expressions import NS, QUEUE, RATE, gauge, percentiles, rate
from grafana.generator.panels import (
    QUEUE_LINK,
    TASK_LINK,
    Json,
    graph,
    line,
    ns_variable,
    numbers,
    queue_variable,
    row,
    stat,
)
from grafana.generator.panels import dashboard as whole


def schedule(name: str) -> str:
    """A gauge per schedule."""
    return f"max by (schedule) (taskq_schedule_{name}{{{NS}}})"


def dashboard() -> Json:
    """Fire times, delayed messages, dead letters."""
    failed = f'{QUEUE},state="FAILURE"'
    return whole(
        "scheduler",
        "scheduler and dead letters",
        "What should have happened by now, and what failed for good.",
        [ns_variable(), queue_variable()],
        [
            row("Now"),
            numbers(
                stat("Delayed", f"sum({gauge('delayed')})", "Messages that are not due yet."),
                stat("Dead letters", f"sum({gauge('dead')})", "`taskq dlq list` shows them.", bad_from=1),
            ),
            row("Delayed messages"),
            line(
                graph("Delayed", gauge("delayed"), "countdown, eta, and the waits before retries.", link=QUEUE_LINK),
                graph(
                    "Punctuality",
                    percentiles("task_punctuality_seconds"),
                    "From the time asked for to the start.",
                    unit="s",
                ),
            ),
            row("Dead letters"),
            line(
                graph("Dead letters", gauge("dead"), "By queue.", link=QUEUE_LINK),
                graph(
                    "New ones",
                    f"sum by (task) (increase(taskq_tasks_total{{{failed}}}{RATE}))",
                    "Messages that became dead letters, by task.",
                    legend="{{task}}",
                    link=TASK_LINK,
                ),
                graph(
                    "Share that fails for good",
                    [(f"{rate('tasks_total', chosen=failed)} / {rate('tasks_total')}", "failed")],
                    "Of all deliveries that ended.",
                    unit="percentunit",
                ),
            ),
        ],
    )
