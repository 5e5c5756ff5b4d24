"""What a running task can know about itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.worker import run_async, running_worker

from taskq import Context, TaskQ, TaskqError, current_task


def facts(context: Context) -> dict[str, Any]:
    return {
        "id": context.id,
        "task": context.task,
        "queue": context.queue,
        "attempt": context.attempt,
        "retries": context.retries,
        "deliveries": context.deliveries,
        "replays": context.replays,
        "headers": context.headers,
        "time_limit": context.time_limit,
        "deadline": context.deadline,
        "cancelled": context.cancelled,
    }


def test_current_task_knows_the_message(app: TaskQ) -> None:
    @app.task(queue="mail", time_limit=60)
    def tell() -> dict[str, Any]:
        return facts(current_task())

    with running_worker(app):
        result = tell.options(headers={"trace": "abc"}).delay()
        told = result.get(timeout=30)
    deadline = told.pop("deadline")
    assert timedelta(0) < deadline - datetime.now(UTC) <= timedelta(seconds=60)
    assert told == {
        "id": result.id,
        "task": tell.name,
        "queue": "mail",
        "attempt": 1,
        "retries": 0,
        "deliveries": 1,
        "replays": 0,
        "headers": {"trace": "abc"},
        "time_limit": 60,
        "cancelled": False,
    }


def test_bind_gives_it_as_the_first_argument(app: TaskQ) -> None:
    @app.task(bind=True)
    def tell(self: Context, x: int) -> list[Any]:
        return [self.id, self.deadline, x]

    @app.task(bind=True)
    async def atell(self: Context, x: int) -> list[Any]:
        return [self.id, current_task().id, x]

    with running_worker(app):
        one, two = tell.delay(7), atell.delay(8)
        assert one.get(timeout=30) == [one.id, None, 7]
        assert two.get(timeout=30) == [two.id, two.id, 8]


def test_async_tasks_do_not_see_each_other(app: TaskQ) -> None:
    import asyncio

    pair = asyncio.Barrier(2)

    @app.task
    async def tell() -> bool:
        before = current_task().id
        await pair.wait()
        return current_task().id == before

    async def program() -> list[bool]:
        results = await tell.adelay_many([()] * 50)
        return [await result for result in results]

    with running_worker(app):
        assert all(run_async(app, program()))


def test_outside_a_task_there_is_none() -> None:
    with pytest.raises(TaskqError, match="inside a running task"):
        current_task()
