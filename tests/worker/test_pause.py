"""A paused queue: nothing starts on any worker, everything stays, and it goes on at once when it is resumed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.process import Proc
from support.wait import eventually, wait_for_line
from support.worker import run_async, run_burst, running_worker

from taskq import TaskQ, TaskRevokedError, TaskState
from taskq.embedded import EmbeddedRedis
from taskq.errors import ConfigError
from taskq.worker.exchange import membership

MakeApp = Callable[..., TaskQ]

APP = """
import os
from taskq import TaskQ

app = TaskQ("shop", lease_timeout=1)

@app.task(queue="held")
def held(n):
    return os.getpid()

@app.task(queue="free")
def free(n):
    return os.getpid()
"""


def test_a_message_sent_after_the_pause_never_starts_while_workers_block(app: TaskQ) -> None:
    """The window in which a worker still blocks on the queue: what it reads there goes back."""
    started: list[int] = []

    @app.task(queue="held")
    def note(n: int) -> None:
        started.append(n)

    with running_worker(app) as one, running_worker(app) as two:
        for turn in range(30):
            eventually(lambda: one.worker._fetcher._reader.reading and two.worker._fetcher._reader.reading)
            assert app.pause("held")
            result = note.delay(turn)
            eventually(lambda: [(each.lag, each.pending) for each in app.queues()] == [(0, 0), (1, 0)])
            assert turn not in started
            assert app.resume("held")
            result.get(timeout=30)
    assert started == list(range(30))


def test_what_is_read_by_a_lost_race_is_handed_back(app: TaskQ, redis_client: Any) -> None:
    """Nobody tells the worker of this pause: it finds out with what it reads."""
    started: list[int] = []

    @app.task(queue="held")
    def note(n: int) -> None:
        started.append(n)

    keys = app.keys.queue("held")
    with running_worker(app) as running:
        eventually(lambda: running.worker._fetcher._reader.reading)
        redis_client.set(keys.paused, "1")
        first, second = note.delay(1), note.delay(2)
        eventually(lambda: redis_client.xlen(keys.stream("front")))
        eventually(lambda: not running.worker._fetcher.held())
        assert not started
        assert (first.status, second.status) == (TaskState.PENDING, TaskState.PENDING)
        app.resume("held")
        first.get(timeout=30)
        second.get(timeout=30)
    assert sorted(started) == [1, 2]


def test_the_other_queues_of_a_worker_go_on(app: TaskQ) -> None:
    @app.task(queue="held")
    def held() -> str:
        return "held"

    @app.task(queue="free")
    def free() -> str:
        return "free"

    app.pause("held")
    with running_worker(app):
        waits = held.delay()
        assert [free.delay().get(timeout=30) for _ in range(5)] == ["free"] * 5
        assert waits.status is TaskState.PENDING
        assert {stats.queue: stats.paused for stats in app.queues()} == {"default": False, "free": False, "held": True}
        app.resume("held")
        assert waits.get(timeout=30) == "held"


def test_running_tasks_finish_and_what_a_worker_held_ahead_goes_back(app: TaskQ, redis_client: Any) -> None:
    go, begun = threading.Event(), threading.Event()

    @app.task(queue="held")
    def wait(n: int) -> int:
        begun.set()
        go.wait(20)
        return n

    with running_worker(app, concurrency=1) as running:
        first = wait.delay(1)
        begun.wait(20)
        rest = [wait.delay(n) for n in (2, 3)]
        app.pause("held")
        eventually(lambda: running.worker._links[1].paused)
        go.set()
        assert first.get(timeout=30) == 1
        eventually(lambda: not running.worker._fetcher.held())
        assert [result.status for result in rest] == [TaskState.PENDING] * 2
        app.resume("held")
        assert [result.get(timeout=30) for result in rest] == [2, 3]


def test_delays_and_retries_collect(app: TaskQ, redis_client: Any) -> None:
    @app.task(queue="held", retry_backoff=0.01)
    def flaky() -> int:
        from taskq import current_task

        if current_task().attempt == 1:
            app.pause("held")
            raise OSError("once")
        return current_task().attempt

    keys = app.keys.queue("held")
    with running_worker(app):
        result = flaky.delay()
        later = flaky.options(countdown=0.01).delay()
        # both are due and promoted into the paused queue's stream, and stay there
        eventually(lambda: sum(redis_client.xlen(keys.stream(level)) for level in ("front", 5)) == 2)
        assert not result.ready()
        assert not later.ready()

        def both_have_ended() -> bool:
            app.resume("held")  # the other one fails once, too, and pauses it again
            return result.ready() and later.ready()

        eventually(both_have_ended)
        assert [result.get(timeout=30), later.get(timeout=30)] == [2, 2]


def test_a_resumption_that_nobody_heard_is_found(app: TaskQ, redis_client: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(membership, "PAUSED_LOOK_EVERY", 0.1)

    @app.task(queue="held")
    def note() -> str:
        return "done"

    app.pause("held")
    with running_worker(app, queues=["held"]) as running:
        result = note.delay()
        eventually(lambda: running.worker._links[0].paused)
        redis_client.delete(app.keys.queue("held").paused)
        assert result.get(timeout=30) == "done"


def test_a_worker_that_only_has_paused_queues_is_ready_and_quiet(app: TaskQ, redis_client: Any) -> None:
    app.task(lambda: None, name="nothing", queue="held")
    app.pause("held")
    with running_worker(app, queues=["held"]) as running:
        eventually(lambda: running.worker._links[0].paused)
        before = redis_client.info("commandstats")["cmdstat_evalsha"]["calls"]
        seen = running.worker.last_fetch
        assert seen > 0
        time.sleep(0.6)
        after = redis_client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert after - before <= 6, "heartbeats and promotions only"
    app.resume("held")


def test_burst_ends_though_a_paused_queue_is_full(app: TaskQ) -> None:
    @app.task(queue="held")
    def held() -> None: ...

    @app.task(queue="free")
    def free() -> str:
        return "free"

    app.pause("held")
    waits, runs = held.delay(), free.delay()
    run_burst(app)
    assert runs.get(timeout=30) == "free"
    assert waits.status is TaskState.PENDING
    app.resume("held")
    run_burst(app)
    assert waits.ready()


@pytest.mark.slow
def test_a_pause_survives_restarts_of_worker_and_redis(
    tmp_path: Path, private_redis: Callable[..., EmbeddedRedis], spawn: Callable[..., Proc]
) -> None:
    (tmp_path / "held_app.py").write_text(APP)
    server = private_redis(tmp_path / "redis")
    settings = {"broker_url": server.url, "namespace": "pauses"}
    environment = {"TASKQ_BROKER_URL": server.url, "TASKQ_NAMESPACE": "pauses"}
    app = TaskQ("client", **settings)

    def start() -> Proc:
        worker = spawn("-m", "taskq", "worker", "-A", "held_app:app", env=environment)
        wait_for_line(worker, "pool:")
        return worker

    try:
        worker = start()
        app.send_task("held_app.held", (1,), queue="held").get(timeout=20)
        app.pause("held")
        waits = app.send_task("held_app.held", (2,), queue="held")
        first = worker.pid
        worker.kill()
        server.restart()
        worker = start()
        assert app.send_task("held_app.free", (3,), queue="free").get(timeout=20) == worker.pid
        # the first worker may have died with it in its hands
        assert eventually(lambda: waits.status is TaskState.PENDING)
        app.resume("held")
        assert waits.get(timeout=20) != first  # if the first had it, it runs in a child process of the second
    finally:
        app.close()


def test_pause_and_resume_say_whether_they_changed_something(app: TaskQ) -> None:
    assert [app.pause("q"), app.pause("q"), app.resume("q"), app.resume("q")] == [True, False, True, False]

    async def the_same() -> list[bool]:
        return [await app.apause("q"), (await app.aqueues())[-1].paused, await app.aresume("q")]

    assert run_async(app, the_same()) == [True, True, True]
    with pytest.raises(ConfigError, match="name"):
        app.pause("no such: name")


def test_purge_drops_what_waits_and_leaves_what_runs(app: TaskQ) -> None:
    go, begun = threading.Event(), threading.Event()

    @app.task(queue="full")
    def wait(n: int) -> int:
        begun.set()
        go.wait(20)
        return n

    with running_worker(app, concurrency=1):
        runs = wait.delay(0)
        begun.wait(20)
        waits = wait.delay_many([(n,) for n in range(1, 600)])
        first = wait.options(priority=9).delay(-1)
        later = wait.options(countdown=60).delay(601)
        app.pause("full")
        assert eventually(lambda: app.purge("full")) == 600
        with pytest.raises(TaskRevokedError, match="purged"):
            waits[300].get(timeout=30)
        assert (first.status, later.status) == (TaskState.REVOKED, TaskState.SCHEDULED)
        assert app.purge("full", delayed=True) == 1
        assert later.status is TaskState.REVOKED
        go.set()
        assert runs.get(timeout=30) == 0
    app.resume("full")
