"""Stop a message: before it starts it never will; what runs is told."""

from __future__ import annotations

import asyncio
import threading

import pytest
from support.wait import eventually
from support.worker import running_worker

from taskq import TaskQ, TaskRevokedError, TaskState, current_task


def test_a_queued_message_never_starts(app: TaskQ) -> None:
    ran: list[int] = []

    @app.task
    def note(x: int) -> None:
        ran.append(x)

    first, second = note.delay(1), note.delay(2)
    assert first.revoke()
    assert first.status is TaskState.REVOKED
    with running_worker(app):
        second.get(timeout=30)
        with pytest.raises(TaskRevokedError):
            first.get(timeout=30)
    assert ran == [2]
    assert first.status is TaskState.REVOKED


def test_a_delayed_message_never_starts(app: TaskQ) -> None:
    ran: list[int] = []

    @app.task
    def note(x: int) -> None:
        ran.append(x)

    with running_worker(app):
        result = note.options(countdown=0.3).delay(1)
        assert result.revoke()
        with pytest.raises(TaskRevokedError):
            result.get(timeout=30)
    assert ran == []


def test_a_message_that_waits_for_its_retry_never_starts_again(app: TaskQ) -> None:
    runs: list[int] = []

    @app.task(retry_backoff=0.3, retry_jitter=False)
    def flaky() -> None:
        runs.append(1)
        raise OSError("no route")

    with running_worker(app):
        result = flaky.delay()
        eventually(lambda: result.status is TaskState.RETRY)
        assert result.revoke()
        with pytest.raises(TaskRevokedError):
            result.get(timeout=30)
    assert runs == [1]


def test_a_running_async_task_is_cancelled(app: TaskQ) -> None:
    running, cleaned = threading.Event(), threading.Event()

    @app.task
    async def wait_forever() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    with running_worker(app):
        result = wait_forever.delay()
        assert running.wait(30)
        assert result.status is TaskState.STARTED
        assert result.revoke()
        with pytest.raises(TaskRevokedError):
            result.get(timeout=30)
    assert cleaned.is_set()


def test_a_running_thread_sees_that_it_should_stop(app: TaskQ) -> None:
    running = threading.Event()

    @app.task
    def work() -> str:
        running.set()
        context = current_task()
        eventually(lambda: context.cancelled)
        return "stopped early"

    with running_worker(app):
        result = work.delay()
        assert running.wait(30)
        assert result.revoke()
        assert result.get(timeout=30) == "stopped early"


def test_what_has_ended_cannot_be_revoked(app: TaskQ) -> None:
    @app.task
    def ping() -> str:
        return "pong"

    with running_worker(app):
        result = ping.delay()
        result.get(timeout=30)
        assert not result.revoke()
        assert result.status is TaskState.SUCCESS


def test_a_revoked_message_leaves_no_mark_behind(app: TaskQ, redis_client: object) -> None:
    @app.task(ignore_result=True)
    def note(x: int) -> None: ...

    result = note.delay(1)
    result.revoke()
    with running_worker(app):
        eventually(lambda: result.ready())
    assert redis_client.exists(app.keys.queue("default").revoked) == 0  # type: ignore[attr-defined]
