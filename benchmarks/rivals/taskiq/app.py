"""taskiq's tasks for the benchmarks."""

import asyncio
from typing import Any

import tally
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

broker: Any = RedisStreamBroker(url=tally.REDIS_URL)
if tally.RESULTS:
    broker = broker.with_result_backend(RedisAsyncResultBackend(tally.REDIS_URL, result_ex_time=3600))


@broker.task(task_name="noop")
async def noop() -> int:
    return tally.hit()


@broker.task(task_name="payload")
async def payload(data: str) -> int:
    return tally.hit()


@broker.task(task_name="stamp")
async def stamp(sent: int) -> int:
    return tally.stamp(sent)


@broker.task(task_name="sleep50")
async def sleep50() -> int:
    tally.start()
    await asyncio.sleep(0.05)
    return tally.end()


TASKS = {"noop": noop, "payload": payload, "stamp": stamp, "sleep50": sleep50}


async def open() -> None:
    await broker.startup()


async def close() -> None:
    await broker.shutdown()


async def send(task: str, *args: Any) -> None:
    await TASKS[task].kiq(*args)
