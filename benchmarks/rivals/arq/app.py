"""arq's tasks for the benchmarks."""

import asyncio
import os
from typing import Any
from urllib.parse import urlsplit

import tally
from arq import create_pool
from arq.connections import ArqRedis, RedisSettings

REDIS = RedisSettings(host="127.0.0.1", port=urlsplit(tally.REDIS_URL).port or 6379)
pool: ArqRedis


async def noop(ctx: Any) -> int:
    return tally.hit()


async def payload(ctx: Any, data: str) -> int:
    return tally.hit()


async def stamp(ctx: Any, sent: int) -> int:
    return tally.stamp(sent)


async def sleep50(ctx: Any) -> int:
    tally.start()
    await asyncio.sleep(0.05)
    return tally.end()


class WorkerSettings:
    """What ``run_worker`` takes."""

    functions = (noop, payload, stamp, sleep50)
    redis_settings = REDIS
    max_jobs = 100
    keep_result = 3600 if tally.RESULTS else 0
    poll_delay = float(os.environ.get("ARQ_POLL", "0.5"))


async def open() -> None:
    global pool
    pool = await create_pool(REDIS)


async def close() -> None:
    await pool.aclose()


async def send(task: str, *args: Any) -> None:
    await pool.enqueue_job(task, *args)
