"""Celery's tasks for the benchmarks."""

import time
from collections.abc import Sequence
from typing import Any

import tally
from celery import Celery, group

app = Celery("app", broker=tally.REDIS_URL, backend=tally.REDIS_URL if tally.RESULTS else None)
app.conf.update(
    task_ignore_result=not tally.RESULTS,
    result_expires=3600,
    broker_connection_retry_on_startup=True,
    worker_send_task_events=False,
)


@app.task(name="noop")
def noop() -> int:
    return tally.hit()


@app.task(name="payload")
def payload(data: str) -> int:
    return tally.hit()


@app.task(name="stamp")
def stamp(sent: int) -> int:
    return tally.stamp(sent)


@app.task(name="sleep50")
def sleep50() -> int:
    tally.start()
    time.sleep(0.05)
    return tally.end()


TASKS = {"noop": noop, "payload": payload, "stamp": stamp, "sleep50": sleep50}


def send(task: str, *args: Any) -> None:
    TASKS[task].delay(*args)


def send_many(task: str, calls: Sequence[Sequence[Any]]) -> None:
    group([TASKS[task].s(*args) for args in calls]).apply_async()
