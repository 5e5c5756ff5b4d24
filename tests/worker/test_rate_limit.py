"""A rate limit over all workers: exact in every window, without a slot held or an attempt charged."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.process import Proc
from support.wait import eventually
from support.worker import run_burst, running_worker

from taskq import Batch, ConfigError, TaskQ, TaskState, current_task
from taskq.values.rates import RateLimit

MakeApp = Callable[..., TaskQ]
Spawn = Callable[..., Proc]


@pytest.mark.parametrize(
    ("text", "count", "window_ms"),
    [("100/s", 100, 1000), ("10/2s", 10, 2000), ("600/m", 600, 60_000), ("5/h", 5, 3_600_000), ("3 / 250ms", 3, 250)],
)
def test_a_rate_is_a_count_in_a_window(text: str, count: int, window_ms: int) -> None:
    assert RateLimit.parse(text, "t") == RateLimit(count, window_ms)


@pytest.mark.parametrize(
    "value", ["", "100", "100/", "/s", "0/s", "-1/s", "1.5/s", "10/year", 10, True, "1/30d", "9/1ms"]
)
def test_what_is_no_rate_is_refused_at_the_definition(app: TaskQ, value: Any) -> None:
    with pytest.raises(ConfigError, match="rate_limit"):
        app.task(name="t", rate_limit=value)(lambda: None)


def test_a_batch_task_has_no_rate_limit(app: TaskQ) -> None:
    with pytest.raises(ConfigError, match="batch"):
        app.task(name="t", rate_limit="1/s", batch=Batch())(lambda items: None)


def test_ordinary_tasks_pass_while_messages_are_parked(app: TaskQ) -> None:
    ran: list[int] = []

    @app.task(rate_limit="2/h")
    def limited(n: int) -> None:
        ran.append(n)

    @app.task
    def free(n: int) -> int:
        return n

    results = limited.delay_many([(n,) for n in range(30)])
    with running_worker(app, concurrency=2):
        assert [result.get(timeout=30) for result in free.delay_many([(n,) for n in range(50)])] == list(range(50))
        stats = eventually(lambda: next((queue for queue in app.queues() if queue.parked == 28), None))
        assert stats is not None
        assert (stats.lag, stats.pending, stats.backlog) == (0, 0, 28)
        assert results[20].status is TaskState.PENDING
    assert sorted(ran) == [0, 1]
    assert app.purge("default") == 28
    assert results[20].status is TaskState.REVOKED
    app.sync_broker.execute("DEL", app.keys.queue("default").permits(limited.name))


def test_parked_messages_run_in_order_with_their_first_attempt(app: TaskQ) -> None:
    ran: list[tuple[int, int, int]] = []

    @app.task(rate_limit="5/200ms")
    def limited(n: int) -> None:
        ran.append((n, current_task().attempt, current_task().deliveries))

    limited.delay_many([(n,) for n in range(25)])
    run_burst(app, concurrency=1)
    assert ran == [(n, 1, 1) for n in range(25)]


def test_async_and_at_most_once_tasks_keep_it_too(app: TaskQ) -> None:
    starts: dict[str, list[float]] = {"a": [], "b": []}

    @app.task(rate_limit="4/300ms")
    async def limited() -> None:
        starts["a"].append(time.time())

    @app.task(rate_limit="4/300ms", delivery="at_most_once")
    def once() -> None:
        starts["b"].append(time.time())

    limited.delay_many([()] * 10)
    once.delay_many([()] * 10)
    with running_worker(app):
        eventually(lambda: all(len(times) == 10 for times in starts.values()))
    for times in starts.values():
        assert min(last - first for first, last in zip(times, times[4:], strict=False)) >= 0.3


def test_a_retry_takes_a_permit_again(app: TaskQ) -> None:
    starts: list[float] = []

    @app.task(rate_limit="1/200ms", retry_backoff=0.001, retry_jitter=False)
    def flaky() -> int:
        starts.append(time.time())
        if current_task().attempt < 3:
            raise OSError("again")
        return current_task().attempt

    with running_worker(app):
        assert flaky.delay().get(timeout=30) == 3
    assert min(last - first for first, last in pairwise(starts)) >= 0.2


def test_no_permit_is_taken_for_what_must_not_start(app: TaskQ) -> None:
    ran: list[int] = []

    @app.task(rate_limit="3/h")
    def limited(n: int) -> None:
        ran.append(n)

    revoked = [limited.delay(-n) for n in range(1, 6)]
    for result in revoked:
        result.revoke()
    expired = limited.options(expires=0.001).delay(-9)
    good = [limited.delay(n) for n in range(3)]
    with running_worker(app):
        for result in good:
            result.get(timeout=30)
        eventually(lambda: all(result.status is TaskState.REVOKED for result in revoked))
        eventually(lambda: expired.status is TaskState.EXPIRED)
    assert sorted(ran) == [0, 1, 2]


def test_a_parked_message_that_is_revoked_gives_its_permit_back(app: TaskQ) -> None:
    ran: list[int] = []
    keys = app.keys.queue("default")

    @app.task(rate_limit="1/h")
    def limited(n: int) -> None:
        ran.append(n)

    execute = app.sync_broker.execute
    with running_worker(app):
        limited.delay(0).get(timeout=30)
        revoked, good = limited.delay(1), limited.delay(2)
        eventually(lambda: execute("LLEN", keys.parked(limited.name)) == 2)
        revoked.revoke()
        # an hour has passed
        execute("DEL", keys.permits(limited.name), keys.mover(limited.name))
        execute("PUBLISH", keys.wake, "parked")
        good.get(timeout=30)
        eventually(lambda: revoked.status is TaskState.REVOKED)
    assert ran == [0, 2]


def test_who_waits_for_a_slot_holds_no_permit(app: TaskQ) -> None:
    """A start must follow its permit at once, or starts would bunch behind a busy slot."""
    go, starts = threading.Event(), []

    @app.task
    def busy() -> None:
        assert go.wait(30)

    @app.task(rate_limit="2/300ms")
    def limited() -> None:
        starts.append(time.time())

    keys = app.keys.queue("default")
    with running_worker(app, concurrency=1) as running:
        busy.delay()
        eventually(lambda: running.worker._fetcher.held() == 1)
        limited.delay_many([()] * 6)
        over = time.monotonic() + 0.5
        eventually(lambda: time.monotonic() > over)
        assert app.sync_broker.execute("ZCARD", keys.permits(limited.name)) == 0
        go.set()
        eventually(lambda: len(starts) == 6)
    assert min(last - first for first, last in zip(starts, starts[2:], strict=False)) >= 0.3


def test_a_limit_that_was_lifted_frees_what_is_parked(make_app: MakeApp) -> None:
    ran: list[int] = []
    before, after = make_app(), make_app()

    @before.task(name="t", rate_limit="1/h")
    def limited(n: int) -> None:
        ran.append(n)

    @after.task(name="t")
    def unlimited(n: int) -> None:
        ran.append(n)

    with running_worker(before):
        limited.delay_many([(n,) for n in range(5)])
        eventually(lambda: before.queues()[0].parked == 4)
    before.sync_broker.execute("DEL", before.keys.queue("default").mover("t"))
    with running_worker(after):
        eventually(lambda: len(ran) == 5)
    assert sorted(ran) == list(range(5))
    assert after.queues()[0].parked == 0


LIMITED = """
import os, time
import redis
from taskq import TaskQ

app = TaskQ("limited", lease_timeout=1)
client = redis.Redis.from_url(os.environ["TASKQ_BROKER_URL"], protocol=2)

@app.task(rate_limit="50/s", ignore_result=True)
def limited(n):
    now = time.time_ns()
    with open(f"starts-{os.getpid()}", "a") as file:
        print(n, now, file=file, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_the_limit_holds_over_workers_that_come_and_die(
    make_app: MakeApp, spawn: Spawn, tmp_path: Path, redis_url: str, namespace: str, pool: str
) -> None:
    """Host and Redis share a clock here, so the time at a task's first line is Redis's."""
    (tmp_path / "limited.py").write_text(LIMITED)
    app = make_app(lease_timeout=1)
    env = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace}
    command = ("-m", "taskq", "worker", "-A", "limited:app", "-c", "2", "-P", pool, "-l", "warning")
    workers = [spawn(*command, env=env) for _ in range(3)]
    app.task(name="limited.limited")(lambda n: None).delay_many([(n,) for n in range(150)])

    def starts() -> list[tuple[int, int]]:
        lines = [line for file in tmp_path.glob("starts-*") for line in file.read_text().splitlines()]
        return sorted(((int(at), int(n)) for n, at in map(str.split, lines)))

    eventually(lambda: len(starts()) > 60, 20)
    workers[0].kill()
    eventually(lambda: len({n for _, n in starts()}) == 150, 30, lambda: f"{len(starts())} started")
    times = [at for at, _ in starts()]
    assert min(last - first for first, last in zip(times, times[50:], strict=False)) >= 1e9
    # what the dead worker had begun runs again, and waits for a permit again
    eventually(lambda: not any(queue.backlog + queue.delayed for queue in app.queues()), 30)
    for worker in workers[1:]:
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
