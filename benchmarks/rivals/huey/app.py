"""Huey's tasks for the benchmarks."""

import time
from typing import Any

import tally
from huey import RedisHuey

huey = RedisHuey("bench", url=tally.REDIS_URL, results=tally.RESULTS)


@huey.task()
def noop() -> int:
    return tally.hit()


@huey.task()
def payload(data: str) -> int:
    return tally.hit()


@huey.task()
def stamp(sent: int) -> int:
    return tally.stamp(sent)


@huey.task()
def sleep50() -> int:
    tally.start()
    time.sleep(0.05)
    return tally.end()


TASKS = {"noop": noop, "payload": payload, "stamp": stamp, "sleep50": sleep50}


def send(task: str, *args: Any) -> None:
    TASKS[task](*args)
