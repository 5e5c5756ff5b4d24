"""At most once, and Redis commands that commit with the task."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from support.wait import eventually
from support.worker import running_worker

from taskq import ConfigError, TaskFailedError, TaskState, current_task


def test_commands_of_a_transaction_commit_with_the_success(make_app: Any, redis_client: Any, namespace: str) -> None:
    app = make_app()
    balance = f"{namespace}:balance"
    redis_client.set(balance, 100, ex=60)

    @app.task
    def pay(amount: int) -> str:
        tx = current_task().tx
        tx.execute("DECRBY", balance, amount)
        tx.execute("SET", f"{namespace}:paid", amount, "EX", 60)
        assert redis_client.get(balance) == b"100", "nothing happens before the settle"
        return "paid"

    with running_worker(app):
        assert pay.delay(30).get(timeout=30) == "paid"
    assert redis_client.get(balance) == b"70"
    assert redis_client.get(f"{namespace}:paid") == b"30"


def test_commands_of_failed_attempts_never_run(make_app: Any, redis_client: Any, namespace: str) -> None:
    app = make_app()
    counter = f"{namespace}:counter"

    @app.task(max_retries=2, retry_backoff=0.01)
    def flaky() -> int:
        context = current_task()
        context.tx.execute("INCR", counter)
        context.tx.execute("EXPIRE", counter, 60)
        if context.attempt < 3:
            raise OSError("not yet")
        return context.attempt

    with running_worker(app):
        assert flaky.delay().get(timeout=30) == 3
    assert redis_client.get(counter) == b"1"


def test_commands_without_a_stored_result(make_app: Any, redis_client: Any, namespace: str) -> None:
    app = make_app()
    key = f"{namespace}:mark"

    @app.task(ignore_result=True)
    def mark() -> None:
        current_task().tx.execute("SET", key, "1", "EX", 60)

    with running_worker(app):
        mark.delay()
        assert eventually(lambda: redis_client.get(key)) == b"1"


def test_a_transaction_takes_no_commands_that_block(make_app: Any) -> None:
    app = make_app()

    @app.task(max_retries=0)
    def bad() -> None:
        current_task().tx.execute("blpop", "key", 0)

    with running_worker(app), pytest.raises(TaskFailedError, match=r"ctx\.tx cannot run BLPOP"):
        bad.delay().get(timeout=30)
    assert app.dlq.purge() == 1


def test_at_most_once_is_settled_before_it_runs(make_app: Any, redis_client: Any, namespace: str) -> None:
    app = make_app()
    started, go_on = threading.Event(), threading.Event()

    @app.task(delivery="at_most_once")
    def careful() -> str:
        started.set()
        go_on.wait(30)
        return "done"

    with running_worker(app):
        result = careful.delay()
        assert started.wait(30)
        stream = f"{namespace}:{{default}}:stream:5"
        assert redis_client.xlen(stream) == 0
        go_on.set()
        assert result.get(timeout=30) == "done"


def test_at_most_once_is_never_retried(make_app: Any) -> None:
    app = make_app()
    runs: list[int] = []

    @app.task(delivery="at_most_once", max_retries=5, retry_backoff=0)
    def fails() -> None:
        runs.append(1)
        raise OSError("once is enough")

    with running_worker(app):
        result = fails.delay()
        with pytest.raises(TaskFailedError, match="once is enough"):
            result.get(timeout=30)
    assert result.status is TaskState.FAILURE
    assert runs == [1]
    assert [letter.task_id for letter in app.dlq.list()] == [result.id]
    app.dlq.purge()


def test_an_unknown_delivery_mode_is_refused(make_app: Any) -> None:
    app = make_app()
    with pytest.raises(ConfigError, match="delivery must be one of"):
        app.task(delivery="exactly_once")(print)  # type: ignore[typeddict-item]
