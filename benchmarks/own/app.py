"""taskq's tasks for the benchmarks."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import tally

from taskq import TaskQ

app = TaskQ("bench", broker_url=tally.REDIS_URL, task_ignore_result=not tally.RESULTS)


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


@app.task(name="async_noop")
async def async_noop() -> int:
    return tally.hit()


@app.task(name="async_stamp")
async def async_stamp(sent: int) -> int:
    return tally.stamp(sent)


@app.task(name="async_sleep50")
async def async_sleep50() -> int:
    tally.start()
    await asyncio.sleep(0.05)
    return tally.end()


def send(task: str, *args: Any) -> None:
    app.tasks[task].delay(*args)


async def asend(task: str, *args: Any) -> None:
    await app.tasks[task].adelay(*args)


def send_many(task: str, calls: Sequence[Sequence[Any]]) -> None:
    app.tasks[task].delay_many(calls)


def call(task: str) -> None:
    app.tasks[task].delay().get(timeout=10)
