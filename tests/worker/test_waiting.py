"""Waiting for a result: not inside a task unless asked for, and not for ever without a word."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from support.wait import eventually
from support.worker import run_async, running_worker

from taskq import Batch, TaskQ
from taskq.errors import ResultTimeoutError, TaskFailedError


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_task_that_waits_for_another_one_is_refused(app: TaskQ, pool: str) -> None:
    @app.task(name="inner")
    def inner() -> int:
        return 1

    @app.task(name="outer", max_retries=0)
    def outer() -> int:
        return inner.options(task_id="from-outer").delay().get(timeout=20)

    @app.task(name="aouter", max_retries=0)
    async def aouter(way: str) -> int:
        result = inner.options(task_id=f"from-aouter-{way}").delay()
        return await (result if way == "await" else result.aget(timeout=20))

    @app.task(name="together", batch=Batch(size=1), max_retries=0)
    def together(items: list[Any]) -> None:
        inner.options(task_id="from-batch").delay().get()

    with running_worker(app, pool=pool):
        for result in (outer.delay(), aouter.delay("await"), aouter.delay("aget"), together.delay()):
            with pytest.raises(TaskFailedError, match=r"waits for the result.*get\(allow_inside_task=True\)"):
                result.get(timeout=30)
        for name in ("from-outer", "from-aouter-await", "from-aouter-aget", "from-batch"):
            assert app.result(name).get(timeout=30) == 1, "it was sent all the same"
    app.dlq.purge()


def test_a_task_may_wait_where_that_is_asked_for(app: TaskQ) -> None:
    @app.task(name="inner")
    def inner() -> int:
        return 1

    @app.task(name="outer")
    def outer() -> int:
        return inner.delay().get(timeout=20, allow_inside_task=True) + 1

    @app.task(name="aouter")
    async def aouter() -> int:
        try:
            return await inner.delay().aget(timeout=20, allow_inside_task=True) + 1
        finally:
            listeners = app.listeners
            listeners.close_loop()  # that of the worker's loop, which the test ends
            app.sender.close_loop()

    with running_worker(app, concurrency=2):
        assert (outer.delay().get(timeout=30), aouter.delay().get(timeout=30)) == (2, 2)


def test_waiting_without_a_worker_or_a_message_says_so_once(
    app: TaskQ, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskq.client.result.LONG", 0.0)
    monkeypatch.setattr("taskq.client.result.REREAD", 0.01)
    caplog.set_level(logging.WARNING, "taskq.result")
    waits = app.task(name="t", queue="lonely")(lambda: None).delay()
    for wait in (lambda: waits.get(timeout=0.3), lambda: run_async(app, waits.aget(timeout=0.3))):
        with pytest.raises(ResultTimeoutError):
            wait()
        assert caplog.messages == [f"get() waits for task {waits.id}, but no worker reads queue lonely"]
        caplog.clear()
    for wait in (
        lambda: app.result("nobody").get(timeout=0.3),
        lambda: run_async(app, app.result("nobody").aget(timeout=0.3)),
    ):
        with pytest.raises(ResultTimeoutError):
            wait()
        (said,) = caplog.messages
        assert "task nobody, of which there is no trace" in said
        caplog.clear()
    with running_worker(app, queues=["lonely"]):
        waits.get(timeout=30)


def test_waiting_for_what_a_worker_has_says_nothing(
    app: TaskQ, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskq.client.result.LONG", 0.0)
    monkeypatch.setattr("taskq.client.result.REREAD", 0.01)
    caplog.set_level(logging.WARNING, "taskq.result")
    go = asyncio.Event()

    @app.task(name="t")
    async def task() -> int:
        await asyncio.wait_for(go.wait(), 30)
        return 1

    with running_worker(app) as running:
        result = task.delay()
        with pytest.raises(ResultTimeoutError):
            result.get(timeout=0.3)
        eventually(lambda: not caplog.messages)
        running.call(go.set)
        assert result.get(timeout=30) == 1
    assert not caplog.messages
