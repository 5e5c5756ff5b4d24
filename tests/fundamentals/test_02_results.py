"""A result is a handle: look at it, wait for it, forget it."""

from __future__ import annotations

import pytest
from support.wait import eventually
from support.worker import run_async, running_worker

from taskq import ResultTimeoutError, TaskFailedError, TaskQ, TaskqError, TaskState


def test_status_follows_the_message(app: TaskQ) -> None:
    @app.task
    def ping() -> str:
        return "pong"

    result = ping.delay()
    assert result.status is TaskState.PENDING
    assert not result.ready()
    with running_worker(app):
        assert result.get(timeout=30) == "pong"
    assert result.status is TaskState.SUCCESS
    assert result.ready()
    assert result.successful()
    assert not result.failed()
    assert result.traceback is None


def test_a_failure_is_raised_where_it_is_waited_for(app: TaskQ) -> None:
    @app.task(max_retries=0)
    def divide(a: int, b: int) -> float:
        return a / b

    with running_worker(app):
        result = divide.delay(1, 0)
        with pytest.raises(TaskFailedError, match="ZeroDivisionError: division by zero") as caught:
            result.get(timeout=30)
    assert caught.value.task_id == result.id
    assert caught.value.error_type == "ZeroDivisionError"
    assert result.status is TaskState.FAILURE
    assert result.failed()
    assert result.ready()
    assert not result.successful()
    assert "return a / b" in str(result.traceback)
    error = result.get(propagate=False)
    assert isinstance(error, TaskFailedError)
    app.dlq.purge()


def test_a_result_can_be_found_by_its_id(app: TaskQ, make_app: type[TaskQ]) -> None:
    @app.task(queue="mail")
    def ping() -> str:
        return "pong"

    with running_worker(app):
        task_id = ping.delay().id
        assert app.result(task_id).get(timeout=30) == "pong"
        assert make_app().result(task_id).get(timeout=30) == "pong"
        assert make_app().result(task_id, queue="mail").get(timeout=30) == "pong"


def test_waiting_ends_at_the_timeout(app: TaskQ) -> None:
    @app.task
    def ping() -> str:
        return "pong"

    result = ping.delay()
    with pytest.raises(ResultTimeoutError, match="PENDING"):
        result.get(timeout=0.05)
    with pytest.raises(TimeoutError):
        run_async(app, result.aget(timeout=0.05))
    with running_worker(app):
        assert result.get(timeout=30) == "pong"


def test_an_unknown_id_has_no_trace(app: TaskQ) -> None:
    result = app.result("0123456789abcdef0123456789abcdef")
    assert result.status is TaskState.UNKNOWN
    assert not result.ready()


def test_forget_deletes_the_outcome(app: TaskQ) -> None:
    @app.task
    def ping() -> str:
        return "pong"

    with running_worker(app):
        result = ping.delay()
        result.get(timeout=30)
        result.forget()
        assert result.status is TaskState.UNKNOWN


def test_ignored_results_are_not_stored(app: TaskQ) -> None:
    done: list[int] = []

    @app.task(ignore_result=True)
    def note(x: int) -> int:
        done.append(x)
        return x

    with running_worker(app):
        result = note.delay(1)
        with pytest.raises(TaskqError, match="ignore_result"):
            result.get(timeout=30)
        eventually(lambda: done == [1])
        assert note.options(ignore_result=False).delay(2).get(timeout=30) == 2
    assert result.status is TaskState.UNKNOWN


def test_results_expire(app: TaskQ, redis_client: object) -> None:
    @app.task(result_expires="2m")
    def ping() -> str:
        return "pong"

    with running_worker(app):
        result = ping.delay()
        result.get(timeout=30)
    ttl = redis_client.pttl(app.keys.queue("default").result(result.id))  # type: ignore[attr-defined]
    assert 60_000 < ttl <= 120_000


def test_many_wait_at_once_over_one_connection(app: TaskQ, redis_client: object) -> None:
    @app.task
    async def echo(x: int) -> int:
        return x

    async def program() -> list[int]:
        import asyncio

        results = await echo.adelay_many([(x,) for x in range(200)])
        return list(await asyncio.gather(*results))

    with running_worker(app):
        assert run_async(app, program()) == list(range(200))
