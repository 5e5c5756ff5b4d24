"""Task: how often it runs, how it ends, how long it takes."""

from __future__ import annotations

from grafana.generator.expressions import TASK, mean, percentiles, quantile, rate
from grafana.generator.panels import (
    Json,
    Line,
    graph,
    line,
    ns_variable,
    numbers,
    queue_variable,
    row,
    stat,
    task_variable,
)
from grafana.generator.panels import dashboard as whole

FAILED = rate("tasks_total", chosen=f'{TASK},state="FAILURE"')
RETRIED = rate("task_retries_total", chosen=TASK)
STARTS = rate("task_starts_total", chosen=TASK)
BY_TASK = {"legend": "{{task}}"}


def dashboard() -> Json:
    """Choose a task at the top."""
    return whole(
        "task",
        "task",
        "One task or some: how often they run, how they end, how long they take.",
        [ns_variable(), queue_variable(), task_variable()],
        [*_now(), *_runs(), *_time(), *_trouble()],
    )


def _now() -> list[Line]:
    return [
        row("Now"),
        numbers(
            stat("Runs", STARTS, "Per second.", unit="ops"),
            stat("Retried", f"{RETRIED} / {STARTS}", "Share of runs.", unit="percentunit", bad_from=0.5),
            stat("Failed for good", f"{FAILED} / {STARTS}", "Share of runs.", unit="percentunit", bad_from=0.05),
            stat("Runtime, mean", mean("task_runtime_seconds", chosen=TASK), "Of all runs.", unit="s"),
            stat("Wait, mean", mean("task_wait_seconds", chosen=TASK), "From birth to start.", unit="s"),
        ),
    ]


def _runs() -> list[Line]:
    return [
        row("Runs"),
        line(
            graph("Runs", rate("task_starts_total", "task", chosen=TASK), "Per second.", unit="ops", **BY_TASK),
            graph(
                "By how they ended",
                rate("tasks_total", "state", chosen=TASK),
                "EXPIRED and REVOKED did not run; SKIPPED left it to another message with its idempotency key.",
                legend="{{state}}",
                unit="ops",
                stacked=True,
            ),
            graph(
                "Busy slots",
                rate("task_runtime_seconds_sum", "task", chosen=TASK),
                "Seconds of running per second: how many slots each task keeps busy.",
                stacked=True,
                **BY_TASK,
            ),
        ),
    ]


def _time() -> list[Line]:
    return [
        row("Time"),
        line(
            graph("Runtime", percentiles("task_runtime_seconds", TASK), "With traces as exemplars.", unit="s"),
            graph("Wait", percentiles("task_wait_seconds", TASK), "From birth to start.", unit="s"),
            graph(
                "Punctuality",
                percentiles("task_punctuality_seconds", TASK),
                "From the time asked for (eta, countdown) to the start.",
                unit="s",
            ),
        ),
        line(
            graph(
                "Runtime by task, p95",
                quantile(0.95, "task_runtime_seconds", "task", chosen=TASK),
                "95 of 100 runs are shorter.",
                unit="s",
                **BY_TASK,
            ),
            graph(
                "Wait by task, p95",
                quantile(0.95, "task_wait_seconds", "task", chosen=TASK),
                "95 of 100 messages wait less.",
                unit="s",
                **BY_TASK,
            ),
        ),
    ]


def _trouble() -> list[Line]:
    return [
        row("Trouble"),
        line(
            graph(
                "Failures",
                rate("tasks_total", "task", chosen=f'{TASK},state="FAILURE"'),
                "Messages that became dead letters.",
                unit="ops",
                **BY_TASK,
            ),
            graph(
                "Retries",
                rate("task_retries_total", "task", chosen=TASK),
                "Runs that failed and will be tried again.",
                unit="ops",
                **BY_TASK,
            ),
            graph(
                "Crashes",
                rate("task_crashes_total", "task", chosen=TASK),
                "Deaths of a process that ran the task, told when the message has ended.",
                unit="ops",
                **BY_TASK,
            ),
        ),
    ]
