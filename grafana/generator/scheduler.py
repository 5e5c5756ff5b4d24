"""Scheduler and dead letters: what should have happened, and what failed for good."""

from __future__ import annotations

from grafana.generator.expressions import NS, QUEUE, RATE, gauge, percentiles, quantile, rate
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


def schedule(name: str) -> str:
    """A gauge per schedule."""
    return f"max by (schedule) (taskq_schedule_{name}{{{NS}}})"


BY_SCHEDULE = {"legend": "{{schedule}}"}
FAILED = f'{QUEUE},state="FAILURE"'


def dashboard() -> Json:
    """Fire times, delayed messages, dead letters."""
    return whole(
        "scheduler",
        "scheduler and dead letters",
        "What should have happened by now, and what failed for good.",
        [ns_variable(), queue_variable()],
        [*_now(), *_schedules(), *_delayed_messages(), *_dead_letters()],
    )


def _now() -> list[Line]:
    return [
        row("Now"),
        numbers(
            stat("Beats", f"max(taskq_beats{{{NS}}})", "With a live lease; with none, nothing fires.", bad_below=1),
            stat("Most overdue", f"max({schedule('overdue_seconds')})", "Of all schedules.", unit="s", bad_from=60),
            stat("Paused", f"sum({schedule('paused')})", "Schedules that do not fire until resumed."),
            stat("Delayed", f"sum({gauge('delayed')})", "Messages that are not due yet."),
            stat("Dead letters", f"sum({gauge('dead')})", "`taskq dlq list` shows them.", bad_from=1),
        ),
    ]


def _schedules() -> list[Line]:
    return [
        row("Schedules"),
        line(
            graph(
                "Fires",
                f'sum by (schedule) (increase(taskq_scheduler_fires_total{{{NS},outcome="fired"}}{RATE}))',
                "Fire times whose message was sent, as beats counted them.",
                **BY_SCHEDULE,
            ),
            graph(
                "Fire times by what became of them",
                f"sum by (outcome) (increase(taskq_scheduler_fires_total{{{NS}}}{RATE}))",
                "`missed`: no beat ran. `skipped`: the message before had not ended.",
                legend="{{outcome}}",
                stacked=True,
            ),
            graph(
                "Lateness, p95",
                quantile(0.95, "scheduler_lateness_seconds", "schedule", chosen=NS),
                "From the fire time to its firing.",
                unit="s",
                **BY_SCHEDULE,
            ),
        ),
        line(
            graph(
                "Schedules by state",
                f"max by (state) (taskq_schedules{{{NS}}})",
                "`no beat`: nothing fires. `retired`: gone from the code.",
                legend="{{state}}",
                stacked=True,
            ),
            graph("Overdue", schedule("overdue_seconds"), "A fire time waits for a beat.", unit="s", **BY_SCHEDULE),
            graph(
                "Next fire in",
                f"{schedule('next_fire_time_seconds')} - time()",
                "Seconds until it fires.",
                unit="s",
                **BY_SCHEDULE,
            ),
            graph(
                "Clock skew",
                [(f"max by (instance) (taskq_scheduler_skew_seconds{{{NS}}})", "{{instance}}")],
                "The beat's host's clock less Redis's. Schedules go by Redis's.",
                unit="s",
            ),
        ),
    ]


def _delayed_messages() -> list[Line]:
    return [
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
    ]


def _dead_letters() -> list[Line]:
    return [
        row("Dead letters"),
        line(
            graph("Dead letters", gauge("dead"), "By queue.", link=QUEUE_LINK),
            graph(
                "New ones",
                f"sum by (task) (increase(taskq_tasks_total{{{FAILED}}}{RATE}))",
                "Messages that became dead letters, by task.",
                legend="{{task}}",
                link=TASK_LINK,
            ),
            graph(
                "Share that fails for good",
                [(f"{rate('tasks_total', chosen=FAILED)} / {rate('tasks_total')}", "failed")],
                "Of all deliveries that ended.",
                unit="percentunit",
            ),
        ),
    ]
