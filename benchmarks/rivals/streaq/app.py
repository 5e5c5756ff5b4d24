"""streaQ's tasks for the benchmarks."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import tally
from streaq import Worker

worker: Any = Worker(
    redis_url=tally.REDIS_URL,
    concurrency=int(os.environ.get("STREAQ_CONCURRENCY", "16")),
    anyio_kwargs={"use_uvloop": True},
)
OPTIONS: dict[str, Any] = {"silent": True, "ttl": 3600 if tally.RESULTS else 0}
connection: AbstractAsyncContextManager[Any]


@worker.task(**OPTIONS)
async def noop() -> int:
    return tally.hit()


@worker.task(**OPTIONS)
async def payload(data: str) -> int:
    return tally.hit()


@worker.task(**OPTIONS)
async def stamp(sent: int) -> int:
    return tally.stamp(sent)


@worker.task(**OPTIONS)
async def sleep50() -> int:
    tally.start()
    await asyncio.sleep(0.05)
    return tally.end()


TASKS = {"noop": noop, "payload": payload, "stamp": stamp, "sleep50": sleep50}


async def open() -> None:
    global connection
    connection = worker.__asynccontextmanager__()
    await connection.__aenter__()


async def close() -> None:
    await connection.__aexit__(None, None, None)


async def send(task: str, *args: Any) -> None:
    await TASKS[task].enqueue(*args)


async def send_many(task: str, calls: Sequence[Sequence[Any]]) -> None:
    await worker.enqueue_many([TASKS[task].enqueue(*args) for args in calls])
