"""SAQ's tasks for the benchmarks."""

import asyncio
import os
from typing import Any

import tally
from saq import Queue

queue = Queue.from_url(tally.REDIS_URL)
TTL = 3600 if tally.RESULTS else -1


async def noop(ctx: Any) -> int:
    return tally.hit()


async def payload(ctx: Any, *, data: str) -> int:
    return tally.hit()


async def stamp(ctx: Any, *, data: int) -> int:
    return tally.stamp(data)


async def sleep50(ctx: Any) -> int:
    tally.start()
    await asyncio.sleep(0.05)
    return tally.end()


settings = {
    "queue": queue,
    "functions": [noop, payload, stamp, sleep50],
    "concurrency": int(os.environ.get("SAQ_CONCURRENCY", "10")),
}


async def open() -> None:
    await queue.connect()


async def close() -> None:
    await queue.disconnect()


async def send(task: str, *args: Any) -> None:
    await queue.enqueue(task, ttl=TTL, **({"data": args[0]} if args else {}))
