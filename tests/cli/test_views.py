"""``taskq tasks`` and ``taskq workers``, and ``--watch``: on a real Redis, with a real worker."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from support.process import Proc
from support.wait import eventually
from support.worker import running_worker

from taskq import TaskQ
from taskq.cli import main


@pytest.fixture
def taskq(redis_url: str, namespace: str) -> Callable[..., Any]:
    """Runs a command with ``--json`` on the test's namespace and returns what it prints."""

    def run(*arguments: str, exit_code: int = 0) -> Any:
        flags = ["-b", redis_url, "--namespace", namespace, "--json"]
        result = CliRunner().invoke(main, [*arguments, *flags])
        assert result.exit_code == exit_code, result.output
        return json.loads(result.stdout)

    return run


@pytest.fixture
def table(redis_url: str, namespace: str) -> Callable[..., list[list[str]]]:
    """Runs a command on the test's namespace; the words of each line of what it prints."""

    def run(*arguments: str) -> list[list[str]]:
        result = CliRunner().invoke(main, [*arguments, "-b", redis_url, "--namespace", namespace])
        assert result.exit_code == 0, result.output
        return [line.split() for line in result.output.splitlines()]

    return run


@pytest.fixture
def go() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_messages_in_each_state(app: TaskQ, taskq: Any, table: Any, go: threading.Event) -> None:
    @app.task(name="pay", queue="pay")
    def pay(order: int, *, card: str = "") -> int:
        go.wait(20)
        return order

    with running_worker(app, concurrency=1) as running:
        runs = pay.delay(1)
        eventually(lambda: running.worker._fetcher.held())
        app.pause("pay")
        low, high = pay.delay(2, card="x" * 100), pay.options(priority=9).delay(3)
        later = pay.options(countdown=60).delay(4)
        (delivered,) = taskq("tasks", "list", "pay", "--state", "running")
        assert (delivered["id"], delivered["worker"]) == (runs.id, running.consumer.decode())
        queued = taskq("tasks", "list", "pay")
        assert [row["id"] for row in queued] == [high.id, low.id], "in the order of their turn"
        assert queued[1] | {"sent": ""} == {
            "id": low.id, "queue": "pay", "task": "pay", "state": "PENDING", "level": "5", "attempt": 1, "sent": "",
            "args": [2], "kwargs": {"card": "x" * 100},
        }  # fmt: skip
        (delayed,) = taskq("tasks", "list", "pay", "--state", "delayed")
        assert (delayed["id"], delayed["state"]) == (later.id, "SCHEDULED")
        assert [len(taskq("tasks", "list", "pay", *more)) for more in (["--limit", "1"], ["--task", "no"])] == [1, 0]
        assert [words[0] for words in table("tasks", "list", "pay")] == ["task", high.id, low.id]
        assert table("tasks", "list", "pay", "--task", "no") == [["no", "queued", "messages"]]
        states = {each.id: taskq("tasks", "show", each.id)["state"] for each in (runs, low, later)}
        assert list(states.values()) == ["STARTED", "PENDING", "SCHEDULED"]
        taskq("tasks", "revoke", low.id, later.id)
        assert taskq("tasks", "show", low.id)["state"] == "REVOKED"
        go.set()
        assert runs.get(timeout=30) == 1
        app.resume("pay")
        high.get(timeout=30)
        eventually(lambda: low.ready())
        assert taskq("tasks", "show", runs.id) == {
            "id": runs.id, "queue": "pay", "state": "SUCCESS", "attempt": 1, "result": 1
        }  # fmt: skip
        assert taskq("tasks", "revoke", runs.id, exit_code=1) == [{"id": runs.id, "revoked": False, "found": "SUCCESS"}]
    assert app.purge("pay", delayed=True) == 1
    assert taskq("tasks", "show", "0" * 32, exit_code=1) == {"id": "0" * 32, "state": "UNKNOWN"}


def test_statistics_of_each_task(app: TaskQ, taskq: Any, table: Any) -> None:
    @app.task(name="pay", max_retries=0)
    def pay(fails: bool) -> None:
        if fails:
            raise ValueError("declined")

    with running_worker(app):
        for fails in (True, False, False):
            pay.delay(fails)
        (row,) = eventually(lambda: taskq("tasks") if sum(r["runs"] for r in taskq("tasks")) == 3 else None)
    assert (row["task"], row["queue"], row["success"], row["failure"], row["retry"]) == ("pay", "default", 2, 1, 0)
    assert row["runtime_seconds"] >= 0
    assert table("tasks")[1][:4] == ["pay", "default", "2", "1"]
    app.pause("other")  # known from now on
    assert table("tasks", "stats", "--queue", "other") == [table("tasks")[0]]
    app.resume("other")
    app.dlq.purge()


def test_workers_and_what_they_run(app: TaskQ, taskq: Any, table: Any, go: threading.Event) -> None:
    @app.task(name="pay")
    def pay() -> None:
        go.wait(20)

    with running_worker(app, concurrency=3) as running:
        result = pay.delay()
        (worker,) = eventually(lambda: [each for each in taskq("workers") if each.get("busy")])
        assert worker["name"] == running.consumer.decode()
        assert (worker["alive"], worker["queues"], worker["slots"], worker["pool"]) == (True, ["default"], 3, "threads")
        assert (worker["running"][0]["task"], worker["running"][0]["id"]) == ("pay", result.id)
        assert worker["rss"] > 1_000_000
        assert "1/3" in table("workers")[1]
        assert table("workers", "--running")[1][1:3] == ["pay", result.id]
        go.set()
    assert taskq("workers") == []


def test_watch_goes_on_until_ctrl_c(app: TaskQ, spawn: Callable[..., Proc], redis_url: str, namespace: str) -> None:
    environment = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace}
    process = spawn("-m", "taskq", "queues", "--watch", "0.1", "--json", env=environment)
    lines = eventually(lambda: process.output().splitlines()[2:] and process.output().splitlines())
    assert [json.loads(line)[0]["queue"] for line in lines[:3]] == ["default"] * 3
    process.signal(signal.SIGINT)
    assert process.wait() == 0


def test_bench_leaves_nothing_behind(redis_url: str, redis_client: Any) -> None:
    nowhere = ["bench", "-b", "redis://127.0.0.1:1", "--yes"]
    failed = CliRunner().invoke(main, nowhere, env={"TASKQ_BROKER_DEADLINE": "0.05"})
    assert failed.exit_code == 69, failed.output  # and what it leaves in the process does not lead the next one there
    arguments = ["bench", "-b", redis_url, "--messages", "200", "--round-trips", "10", "--yes", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert min(figures.values()) > 0
    assert not list(redis_client.scan_iter("taskq-bench-*", count=1000))


def test_bench_asks_first(redis_url: str) -> None:
    result = CliRunner().invoke(main, ["bench", "-b", redis_url], input="n\n")
    assert result.exit_code == 1
    assert "uses all that the server can give" in result.output
