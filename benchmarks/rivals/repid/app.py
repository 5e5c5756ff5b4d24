"""repid's tasks for the benchmarks."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

import tally
from repid import RedisServer, Repid, Router

app = Repid(title="bench")
app.servers.register_server("default", RedisServer(tally.REDIS_URL, batch_size=100), is_default=True)
router = Router()
connection: AbstractAsyncContextManager[Any]


@router.actor
async def noop() -> None:
    tally.hit()


@router.actor
async def payload(data: str) -> None:
    tally.hit()


@router.actor
async def stamp(data: int) -> None:
    tally.stamp(data)


@router.actor
async def sleep50() -> None:
    tally.start()
    await asyncio.sleep(0.05)
    tally.end()


app.include_router(router)


async def open() -> None:
    global connection
    connection = app.servers.default.connection()
    await connection.__aenter__()


async def close() -> None:
    await connection.__aexit__(None, None, None)


async def send(task: str, *args: Any) -> None:
    data = {"data": args[0]} if args else {}
    await app.send_message_json(channel="default", payload=data, headers={"topic": task})
