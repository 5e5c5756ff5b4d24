"""What an event loop has used is closed as it ends, and by the next loop at the latest."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from typing import Any

import pytest
from support.wait import eventually

from taskq import TaskQ

pytestmark = pytest.mark.leaves_keys

HEAD = """
import asyncio, gc, sys, time
import redis
from taskq import TaskQ

url, namespace = sys.argv[1:]
app = TaskQ("test", broker_url=url, namespace=namespace)

@app.task(name="job")
def job() -> int:
    return 1

fifo = app.queue("letters")

async def use() -> None:
    result = await job.adelay()
    await job.adelay_many([(), ()])
    try:
        await result.aget(timeout=0.05)
    except TimeoutError:
        pass

async def use_all() -> None:
    await use()
    await fifo.aput(1)
    item = await fifo.aget(timeout=20)
    await item.aack()

def left(client: redis.Redis) -> list[str]:
    app.sync_broker.close()  # some of it is done by ordinary code, in threads
    # Redis may not have seen yet that a socket was closed
    limit = time.monotonic() + 20
    while True:
        ours = [row["name"] for row in client.client_list() if row["name"].startswith("taskq")]
        if not ours or time.monotonic() > limit:
            return ours
        time.sleep(0.005)
"""

BY_ASYNCIO_RUN = """
with redis.Redis.from_url(url, protocol=2) as client:
    gc.disable()
    for _ in range(3):
        asyncio.run(use_all())
        assert left(client) == []
    gc.enable()
    gc.collect()
app.close()
"""

IN_OTHER_THREADS = """
import threading
with redis.Redis.from_url(url, protocol=2) as client:
    threads = [threading.Thread(target=lambda: asyncio.run(use())) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert left(client) == []
app.close()
"""

BY_CLOSING_A_LOOP = """
with redis.Redis.from_url(url, protocol=2) as client:
    gc.disable()
    for _ in range(3):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(job.adelay())
        loop.close()
    # each was closed by the next
    assert sum(row["name"].startswith("taskq") for row in client.client_list()) <= 2
    asyncio.run(use())
    assert left(client) == []
app.close()
"""

A_LOOP_LEFT_OPEN = """
loop = asyncio.new_event_loop()
loop.run_until_complete(job.adelay())
"""

SENT_AT_THE_VERY_END = """
ended = []

async def stream():
    try:
        yield
    finally:
        await asyncio.sleep(0.01)
        ended.append(await job.adelay())

async def main() -> None:
    global kept
    await job.adelay()
    kept = stream()
    await anext(kept)

asyncio.run(main())
assert len(ended) == 1
asyncio.run(main())
assert len(ended) == 2
"""


def run(code: str, url: str, namespace: str, *flags: str) -> str:
    """What *code* prints, which must end well."""
    command = [sys.executable, *flags, "-c", HEAD + code, url, namespace]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("code", [BY_ASYNCIO_RUN, IN_OTHER_THREADS], ids=["one after the other", "side by side"])
def test_asyncio_run_leaves_no_connection_and_no_warning(code: str, redis_url: str, app: TaskQ) -> None:
    assert run(code, redis_url, app.config.namespace, "-W", "error") == ""


def test_a_loop_that_was_only_closed_leaves_its_connection_to_the_next_loop(redis_url: str, app: TaskQ) -> None:
    assert run(BY_CLOSING_A_LOOP, redis_url, app.config.namespace) == ""


@pytest.mark.parametrize("code", [A_LOOP_LEFT_OPEN, SENT_AT_THE_VERY_END], ids=["never closed", "sends as it ends"])
def test_python_says_nothing_about_a_loop_that_ends_otherwise(code: str, redis_url: str, app: TaskQ) -> None:
    assert run(code, redis_url, app.config.namespace) == ""


def test_an_app_that_goes_while_the_loop_runs_closes_its_connection(redis_url: str, redis_client: Any) -> None:
    async def main() -> None:
        app = TaskQ("goes", broker_url=redis_url)
        before = await (await app.async_client.connection(5)).execute("CLIENT", "ID", timeout=5)
        del app
        gc.collect()
        await asyncio.to_thread(
            eventually, lambda: before not in {int(row["id"]) for row in redis_client.client_list()}
        )

    asyncio.run(main())
