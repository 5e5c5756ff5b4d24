"""Workers and relays killed under load, and stopped beyond their lease: every effect in the database is there once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from support.process import Proc
from support.wait import eventually

from taskq import TaskQ
from taskq.broker import scripts
from taskq.broker.keys import GROUP

SHOP = """
import os, time
from sqlalchemy import create_engine, text
from taskq import TaskQ, current_task
from taskq.contrib.sqlalchemy import once, outbox

app = TaskQ("shop", lease_timeout=1, max_crashes=100)
engine = create_engine(os.environ["TASKQ_DATABASE_URL"])

@app.task(name="add", ignore_result=True, retry_backoff=0.05, max_retries=None)
def add(n):
    with engine.begin() as connection:
        if once(connection):
            connection.execute(text("INSERT INTO effect (name, value) VALUES ('add', :n)"), {"n": n})
            outbox.delay(connection, follow, n)
    time.sleep(0.005)

@app.task(name="follow", ignore_result=True, retry_backoff=0.05, max_retries=None)
def follow(n):
    with engine.begin() as connection:
        if once(connection):
            connection.execute(text("INSERT INTO effect (name, value) VALUES ('follow', :n)"), {"n": n})

@app.task(name="pause", retry_backoff=0.05, max_retries=None)
def pause(path):
    with engine.begin() as connection:
        first = once(connection)
        if first:
            connection.execute(text("INSERT INTO effect (name, value) VALUES ('pause', 1)"))
            if not os.path.exists(path):
                with open(path, "w") as marker:
                    marker.write(str(os.getpid()))
                time.sleep(0.5)  # the test stops us here, inside the transaction
    return bool(first)
"""


@pytest.fixture
def environment(tmp_path: Path, redis_url: str, namespace: str, database_url: str) -> dict[str, str]:
    (tmp_path / "shop.py").write_text(SHOP)
    return {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace, "TASKQ_DATABASE_URL": database_url}


def effects(engine: Engine, name: str) -> list[int]:
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT value FROM effect WHERE name = :name"), {"name": name}).scalars()
        return sorted(rows)


def holds(app: TaskQ, worker: Proc) -> bool:
    """Whether the worker has a delivery."""
    keys = app.keys.queue("default")
    rows = [
        row
        for stream in scripts.streams_of(keys, [])
        for row in app.sync_broker.execute("XPENDING", stream, GROUP, "-", "+", 10)
    ]
    return any(f":{worker.pid}:".encode() in row[1] for row in rows)


@pytest.mark.slow
@pytest.mark.usefixtures("redis_client")
def test_killed_under_load(app: TaskQ, engine: Engine, spawn: Callable[..., Proc], environment: dict[str, str]) -> None:
    total = 600

    def worker() -> Proc:
        return spawn("-m", "taskq", "worker", "-A", "shop:app", "-c", "4", env=environment)

    def relay() -> Proc:
        return spawn("-m", "taskq", "outbox-relay", "--page", "20", "--poll", "0.05", env=environment)

    workers, relays = [worker(), worker()], [relay(), relay()]
    for n in range(total):
        app.send_task("add", (n,))
    for n in range(8):
        before = len(effects(engine, "add"))
        eventually(lambda before=before: len(effects(engine, "add")) >= min(before + 30, total))  # type: ignore[misc]
        workers[n % 2].kill()
        relays[n % 2].kill()
        workers[n % 2], relays[n % 2] = worker(), relay()
    eventually(lambda: len(effects(engine, "follow")) >= total, 60, lambda: len(effects(engine, "follow")))
    # what a killed worker had committed and not settled comes again when its lease has run out
    eventually(lambda: not any(queue.lag or queue.pending for queue in app.queues()), 60, app.queues)
    for process in workers + relays:
        process.signal(signal.SIGTERM)
    for process in workers + relays:
        assert process.wait() == 0, process.output()
    assert effects(engine, "add") == effects(engine, "follow") == list(range(total))
    assert app.dlq.count() == 0


def test_stopped_inside_the_transaction_for_longer_than_the_lease(
    app: TaskQ, engine: Engine, spawn: Callable[..., Proc], environment: dict[str, str], tmp_path: Path
) -> None:
    """Another worker takes over meanwhile; whichever of the two commits, there is one effect."""
    marker = tmp_path / "marker"
    result: Any = app.send_task("pause", (str(marker),))
    first = spawn("-m", "taskq", "worker", "-A", "shop:app", env=environment)
    eventually(marker.exists)
    first.signal(signal.SIGSTOP)
    second = spawn("-m", "taskq", "worker", "-A", "shop:app", env=environment)
    try:
        eventually(lambda: holds(app, second), 20)  # the lease of the first has run out
        assert effects(engine, "pause") == []
    finally:
        first.signal(signal.SIGCONT)
    assert result.get(timeout=20) is False, "the stale worker has committed the effect, but not the result"
    assert effects(engine, "pause") == [1]
    for worker in (first, second):
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0, worker.output()
