"""``async def`` functions are tasks like any other; one worker runs both kinds."""

from __future__ import annotations

import asyncio

from support.worker import run_async, running_worker

from taskq import TaskQ


def test_async_and_ordinary_tasks_share_a_worker(app: TaskQ) -> None:
    @app.task
    async def fetch(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    @app.task
    def compute(x: int) -> int:
        return x + 2

    with running_worker(app):
        results = [task.delay(x) for x in range(5) for task in (fetch, compute)]
        assert [result.get(timeout=30) for result in results] == [y for x in range(5) for y in (x + 1, x + 2)]


def test_calling_an_async_task_gives_its_coroutine(app: TaskQ) -> None:
    @app.task
    async def fetch(x: int) -> int:
        return x + 1

    assert run_async(app, fetch(1)) == 2


def test_async_tasks_run_side_by_side(app: TaskQ) -> None:
    meeting = asyncio.Barrier(20)  # nobody gets past it unless all of them run at the same time

    @app.task
    async def meet() -> int:
        return await meeting.wait()

    with running_worker(app):
        results = [meet.delay() for _ in range(20)]
        assert sorted(result.get(timeout=30) for result in results) == list(range(20))
