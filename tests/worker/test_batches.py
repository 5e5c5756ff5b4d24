"""Batch tasks: what is collected into one call, and what becomes of each of its members."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.process import Proc
from support.wait import eventually, wait_for_line
from support.worker import run_burst, running_worker

from taskq import Batch, BatchItem, ConfigError, Reject, Retry, TaskFailedError, TaskQ, TaskState, current_task

MakeApp = Callable[..., TaskQ]
Spawn = Callable[..., Proc]


@pytest.fixture
def batches() -> list[list[Any]]:
    """What each invocation of a test's task was given."""
    return []


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_calls_are_collected_into_full_batches(app: TaskQ, batches: list[list[Any]], pool: str) -> None:
    @app.task(batch=Batch(size=50, wait="30s"))
    def collect(items: list[BatchItem]) -> list[int]:
        batches.append([item.args[0] for item in items])
        return [item.args[0] * 2 for item in items]

    results = collect.delay_many([(n,) for n in range(500)])
    with running_worker(app, pool=pool):
        assert [result.get(timeout=30) for result in results] == [2 * n for n in range(500)]
    assert [len(batch) for batch in batches] == [50] * 10
    assert sorted(n for batch in batches for n in batch) == list(range(500))


def test_async_calls_are_collected_too(app: TaskQ, batches: list[list[Any]]) -> None:
    @app.task(batch=Batch(size=5, wait="30s"))
    async def collect(items: list[BatchItem]) -> list[Any]:
        batches.append([item.kwargs["n"] for item in items])
        return await asyncio.gather(*(one(item.kwargs["n"]) for item in items), return_exceptions=True)

    async def one(n: int) -> int:
        if n == 3:
            raise Reject("three")
        return n

    results = [collect.delay(n=n) for n in range(10)]
    with running_worker(app):
        assert [result.get(timeout=30) for n, result in enumerate(results) if n != 3] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
        with pytest.raises(TaskFailedError, match="three"):
            results[3].get(timeout=30)
    assert [len(batch) for batch in batches] == [5, 5]
    assert app.dlq.purge() == 1


def test_a_batch_that_does_not_fill_starts_after_its_wait(app: TaskQ, batches: list[list[Any]]) -> None:
    @app.task(batch=Batch(size=100, wait=0.2))
    def collect(items: list[BatchItem]) -> None:
        batches.append([item.args[0] for item in items])

    with running_worker(app):
        results = [collect.delay(n) for n in range(3)]
        assert [result.get(timeout=30) for result in results] == [None] * 3
    assert sorted(n for batch in batches for n in batch) == [0, 1, 2]
    assert len(batches) <= 3


def test_a_mapping_gives_each_item_its_value(app: TaskQ) -> None:
    @app.task(batch=Batch(size=3, wait="30s"), max_retries=0)
    def collect(items: list[BatchItem]) -> dict[str, Any]:
        return {item.id: item.args[0] for item in items if item.args[0] != "left out"}

    results = collect.delay_many([("a",), ("left out",), ("c",)])
    with running_worker(app):
        assert [results[0].get(timeout=30), results[2].get(timeout=30)] == ["a", "c"]
        with pytest.raises(TaskFailedError, match="no value for this item"):
            results[1].get(timeout=30)
    app.dlq.purge()


def test_only_the_failed_run_again_each_by_its_own_policy(app: TaskQ) -> None:
    seen: list[tuple[str, int]] = []

    @app.task(batch=Batch(size=4, wait=0.02), max_retries=2, retry_backoff=0.01)
    def collect(items: list[BatchItem]) -> list[str]:
        for item in items:
            seen.append((item.args[0], item.attempt))
            if item.args[0] == "doomed":
                item.fail(ValueError("never"))
            if item.args[0] == "flaky" and item.attempt == 1:
                item.fail(Retry(countdown=0.01))
            if item.args[0] == "refused":
                item.fail(Reject("not this one"))
        return [item.args[0] for item in items]

    good, flaky, doomed, refused = collect.delay_many([("good",), ("flaky",), ("doomed",), ("refused",)])
    with running_worker(app):
        assert good.get(timeout=30) == "good"
        assert flaky.get(timeout=30) == "flaky"
        for result in (doomed, refused):
            with pytest.raises(TaskFailedError):
                result.get(timeout=30)
    assert sorted(seen) == [
        ("doomed", 1), ("doomed", 2), ("doomed", 3), ("flaky", 1), ("flaky", 2), ("good", 1), ("refused", 1),
    ]  # fmt: skip
    letters = {letter.message.args[0]: letter.evidence for letter in app.dlq.list() if letter.message}
    assert (letters["doomed"].attempts, letters["doomed"].error) == (3, "never")
    assert (letters["refused"].attempts, letters["refused"].reason) == (1, "rejected")
    app.dlq.purge()


def test_what_is_raised_fails_all(app: TaskQ) -> None:
    @app.task(batch=Batch(size=3, wait="30s"), max_retries=0)
    def collect(items: list[BatchItem]) -> None:
        items[1].fail(KeyError("its own reason"))
        raise ValueError("the database is away")

    results = collect.delay_many([(n,) for n in range(3)])
    with running_worker(app):
        eventually(lambda: all(result.ready() for result in results))
    errors = {letter.message.args[0]: letter.evidence.error_type for letter in app.dlq.list() if letter.message}
    assert errors == {0: "ValueError", 1: "KeyError", 2: "ValueError"}
    app.dlq.purge()


@pytest.mark.parametrize("value", [[1, 2], "text", 7, {"no such id": 1}], ids=["short", "text", "number", "mapping"])
def test_a_return_value_that_says_nothing_about_the_items_is_not_retried(app: TaskQ, value: Any) -> None:
    calls: list[int] = []

    @app.task(batch=Batch(size=3, wait="30s"))
    def collect(items: list[BatchItem]) -> Any:
        calls.append(len(items))
        return value

    collect.delay_many([(n,) for n in range(3)])
    with running_worker(app):
        letters = eventually(lambda: [*app.dlq.list()] if len(app.dlq.list()) == 3 else [])
    assert {letter.evidence.error_type for letter in letters} == {"TypeError"}
    assert calls == [3]
    app.dlq.purge()


def test_a_key_keeps_calls_apart(app: TaskQ, batches: list[list[Any]]) -> None:
    def table(name: str, row: int) -> str:
        return name

    @app.task(batch=Batch(size=10, wait="30s", by=table))
    def collect(items: list[BatchItem]) -> None:
        batches.append([item.args for item in items])

    with pytest.raises(TypeError, match="row"):
        collect.delay("orders")
    results = collect.delay_many([("orders" if n % 2 else "customers", n) for n in range(40)])
    with running_worker(app):
        for result in results:
            result.get(timeout=30)
    assert len(batches) == 4
    assert all(len({name for name, _ in batch}) == 1 for batch in batches)


def test_a_key_that_cannot_be_computed_fails_that_call_alone(app: TaskQ) -> None:
    @app.task(batch=Batch(size=2, wait="30s", by=lambda row: row["table"]), max_retries=0)
    def collect(items: list[BatchItem]) -> None: ...

    good = [collect.delay({"table": "t"}), collect.delay({"table": "t"})]
    bad = [collect.delay({}), collect.delay({"table": []})]
    with running_worker(app):
        assert [result.get(timeout=30) for result in good] == [None, None]
        for result in bad:
            with pytest.raises(TaskFailedError):
                result.get(timeout=30)
    app.dlq.purge()


def test_each_item_commits_its_own_commands(app: TaskQ, redis_client: Any) -> None:
    counter = f"{app.config.namespace}:{{default}}:count"

    @app.task(batch=Batch(size=4, wait="30s"), max_retries=0)
    def collect(items: list[BatchItem]) -> None:
        for item in items:
            item.tx.execute("INCRBY", counter, item.args[0])
            item.tx.execute("PEXPIRE", counter, 60_000)
        items[0].fail(ValueError("not me"))
        with pytest.raises(Exception, match=r"item\.tx"):
            _ = current_task().tx

    collect.delay_many([(n,) for n in (1, 10, 100, 1000)])
    with running_worker(app):
        eventually(lambda: int(redis_client.get(counter) or 0) == 1110)
    app.dlq.purge()


def test_revoked_and_expired_members_do_not_take_part(app: TaskQ, batches: list[list[Any]]) -> None:
    @app.task(batch=Batch(size=3, wait="30s"))
    def collect(items: list[BatchItem]) -> None:
        batches.append([item.args[0] for item in items])

    with running_worker(app) as running:
        revoked, expired = collect.delay("revoked"), collect.options(expires=0.05).delay("expired")
        eventually(lambda: running.worker._fetcher.held() == 2)
        revoked.revoke()
        over = time.monotonic() + 0.1
        eventually(lambda: time.monotonic() > over)
        assert collect.delay("good").get(timeout=30) is None
        assert eventually(lambda: revoked.status is TaskState.REVOKED)
        assert eventually(lambda: expired.status is TaskState.EXPIRED)
    assert batches == [["good"]]


def test_who_stops_hands_back_what_was_only_collected_uncharged(app: TaskQ, batches: list[list[Any]]) -> None:
    @app.task(batch=Batch(size=10, wait="1h"))
    def collect(items: list[BatchItem]) -> None:
        batches.append([(item.attempt, item.args[0]) for item in items])

    with running_worker(app) as running:
        collect.delay_many([(n,) for n in range(7)])
        eventually(lambda: running.worker._fetcher.held() == 7)
        began = time.monotonic()
    assert time.monotonic() - began < app.config.worker_shutdown_timeout
    assert not batches
    with running_worker(app):
        for n in range(7, 10):
            collect.delay(n)
        eventually(lambda: batches)
    assert sorted(batches[0]) == [(1, n) for n in range(10)]


def test_a_lost_lease_stops_the_batch_and_another_worker_runs_it(make_app: MakeApp, redis_client: Any) -> None:
    app = make_app(lease_timeout=0.5)
    runs: list[bool] = []
    first = threading.Event()

    @app.task(batch=Batch(size=3, wait="30s"))
    async def collect(items: list[BatchItem]) -> list[int]:
        runs.append(True)
        if len(runs) == 1:
            first.set()
            await asyncio.Event().wait()
        return [item.args[0] for item in items]

    results = collect.delay_many([(n,) for n in range(3)])
    with running_worker(app) as running:
        assert first.wait(30)
        redis_client.zadd(app.keys.queue("default").consumers, {running.consumer: 1})
        with running_worker(app):
            assert [result.get(timeout=20) for result in results] == [0, 1, 2]


def test_a_time_limit_is_that_of_the_whole_call(app: TaskQ) -> None:
    @app.task(batch=Batch(size=3, wait="30s"), time_limit=0.1, max_retries=0)
    async def collect(items: list[BatchItem]) -> None:
        await asyncio.Event().wait()

    collect.delay_many([(n,) for n in range(3)])
    with running_worker(app):
        letters = eventually(lambda: app.dlq.list() if len(app.dlq.list()) == 3 else [])
    assert {letter.evidence.error_type for letter in letters} == {"TimeLimitExceededError"}
    app.dlq.purge()


def test_while_every_slot_is_busy_calls_join_the_batch_that_waits(app: TaskQ, batches: list[list[Any]]) -> None:
    busy, go = threading.Event(), threading.Event()

    @app.task(batch=Batch(size=100, wait=0.01))
    def collect(items: list[BatchItem]) -> None:
        batches.append([item.args[0] for item in items])
        if len(batches) == 1:
            busy.set()
            assert go.wait(30)

    with running_worker(app, concurrency=1) as running:
        collect.delay(0)
        assert busy.wait(30)
        for n in range(1, 4):
            collect.delay(n)
            eventually(lambda: running.worker._fetcher.held() > 1)
        go.set()
        eventually(lambda: sum(map(len, batches)) == 4)
    assert len(batches) <= 3


def test_ordinary_tasks_run_beside_batches(app: TaskQ, batches: list[list[Any]]) -> None:
    @app.task(batch=Batch(size=20, wait=0.05))
    def collect(items: list[BatchItem]) -> None:
        batches.append(items)

    @app.task
    def single(n: int) -> int:
        return n

    results = []
    for n in range(100):
        results += [collect.delay(n), single.delay(n)]
    run_burst(app)
    assert all(result.ready() for result in results)
    assert sum(map(len, batches)) == 100
    assert max(map(len, batches)) > 1


def test_members_keep_their_own_outcomes_for_the_hooks(app: TaskQ) -> None:
    told: list[Any] = []
    app.hooks.listen("settled", told.extend)

    @app.task(batch=Batch(size=4, wait="30s"), max_retries=0)
    def collect(items: list[BatchItem]) -> None:
        items[0].fail(ValueError("no"))

    collect.delay_many([(n,) for n in range(4)])
    with running_worker(app):
        eventually(lambda: sum(settled.ended for settled in told) == 4)
    assert sorted((settled.state, settled.ended) for settled in told) == [("FAILURE", 1), ("SUCCESS", 3)]
    app.dlq.purge()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"size": 0}, "size"),
        ({"size": 2001}, "size"),
        ({"size": True}, "size"),
        ({"wait": -1}, "wait"),
        ({"wait": "soon"}, "wait"),
        ({"by": "customer"}, "by"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_at_its_definition(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Batch(**settings)


def test_a_task_that_cannot_be_a_batch_is_refused_at_its_definition(app: TaskQ) -> None:
    def ok(items: list[BatchItem]) -> None: ...

    def two(items: list[BatchItem], more: int) -> None: ...

    for function, settings, text in (
        (ok, {"batch": 500}, "batch=Batch"),
        (ok, {"batch": Batch(), "delivery": "at_most_once"}, "at_most_once"),
        (two, {"batch": Batch()}, "one argument"),
    ):
        with pytest.raises(ConfigError, match=text):
            app.register(function, name="t", bind=False, settings=settings)
    with pytest.raises(ConfigError, match="bound"):
        app.register(ok, name="t", bind=True, settings={"batch": Batch()})
    assert "t" not in app.tasks


POOL = """
import os
from taskq import Batch, TaskQ

app = TaskQ("pool")

@app.task(batch=Batch(size=4, wait=0.05), max_retries=0)
def collect(items):
    if any(item.args[0] == "poison" for item in items):
        os._exit(9)
    for item in items:
        if item.args[0] == "bad":
            item.fail(ValueError("bad"))
    return {item.id: [item.args[0], len(items)] for item in items}
"""


@pytest.mark.slow
def test_in_child_processes_a_killer_is_found_and_its_neighbours_are_not_charged(
    make_app: MakeApp, spawn: Spawn, tmp_path: Path, redis_url: str, namespace: str
) -> None:
    (tmp_path / "pool.py").write_text(POOL)
    env = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace}
    app = make_app()
    names = ["a", "bad", "c", "d", "e", "poison", "g", "h"]
    results = {name: app.send_task("pool.collect", (name,)) for name in names}
    worker = spawn("-m", "taskq", "worker", "-A", "pool:app", "-P", "processes", "-c", "2", env=env)
    wait_for_line(worker, "pool.collect killed its process")
    for name in "acdegh":
        assert results[name].get(timeout=20)[0] == name
    for name in ("bad", "poison"):
        with pytest.raises(TaskFailedError):
            results[name].get(timeout=20)
    letters = {letter.message.args[0]: letter.evidence for letter in app.dlq.list() if letter.message}
    assert (letters["poison"].reason, letters["poison"].crashes) == ("crashed", 3)
    assert letters["bad"].crashes == 0
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    app.dlq.purge()


KILLED = """
import os
from pathlib import Path
from taskq import Batch, TaskQ

app = TaskQ("killed", lease_timeout=1)

@app.task(batch=Batch(size=5, wait=0.1))
def collect(items):
    with open("runs", "a") as runs:
        print(*sorted(item.args[0] for item in items), file=runs, flush=True)
    if not Path("died").exists():
        Path("died").touch()
        os.kill(os.getpid(), 9)
    return [item.attempt for item in items]
"""


@pytest.mark.slow
def test_what_a_dead_worker_had_collected_runs_again_each_alone(
    make_app: MakeApp, spawn: Spawn, tmp_path: Path, redis_url: str, namespace: str
) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    env = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace}
    app = make_app()
    results = [app.send_task("killed.collect", (n,)) for n in range(5)]
    spawn("-m", "taskq", "worker", "-A", "killed:app", env=env).wait()
    second = spawn("-m", "taskq", "worker", "-A", "killed:app", env=env)
    assert [result.get(timeout=20) for result in results] == [1] * 5, "a crash charges no attempt"
    second.signal(signal.SIGTERM)
    assert second.wait() == 0
    lines = (tmp_path / "runs").read_text().split("\n")
    assert lines[0] == "0 1 2 3 4"
    assert sorted(lines[1:-1]) == ["0", "1", "2", "3", "4"], "suspects share their fate with nobody"
    assert os.path.exists(tmp_path / "died")
