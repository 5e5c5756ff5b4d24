"""Schedules and the workers that run their messages: overlap, and the history of what became of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from support.wait import eventually
from support.worker import running_worker

from taskq import Reject, ScheduleError, TaskQ, current_task, every


class Job:
    """A task that waits to be let go, and its schedule."""

    def __init__(self, app: TaskQ, overlap: str, **settings: Any) -> None:
        self.app, self.go, self.begun = app, threading.Event(), list[str]()
        app.task(name="job", max_retries=0, **settings)(self._run)
        app.schedules.add("job", every("30d"), "job", overlap=overlap, max_held=2)

    def _run(self) -> str:
        self.begun.append(current_task().id)
        assert current_task().schedule == "job"
        fire_time = current_task().fire_time
        assert fire_time is not None
        assert abs((fire_time - datetime.now(UTC)).total_seconds()) < 300
        while not self.go.wait(0.01):
            if current_task().cancelled:
                raise Reject("cancelled")
        return "done"

    def history(self) -> list[str]:
        return [fire.outcome for fire in self.app.schedules.history("job")][::-1]


@pytest.fixture
def start(app: TaskQ) -> Callable[..., Any]:
    return lambda: running_worker(app, queues=["default"])


def test_skip_waits_for_the_end(app: TaskQ, start: Callable[..., Any]) -> None:
    job = Job(app, "skip")
    with start():
        first = app.schedules.run_now("job")
        eventually(lambda: job.begun == [first.id])
        with pytest.raises(ScheduleError, match="has not ended"):
            app.schedules.run_now("job")
        job.go.set()
        assert first.get(timeout=30) == "done"
        assert app.schedules.run_now("job").get(timeout=30) == "done"
        assert job.history() == ["SUCCESS", "skipped", "SUCCESS"]


def test_queue_runs_one_after_the_other(app: TaskQ, start: Callable[..., Any]) -> None:
    job = Job(app, "queue")
    with start():
        results = [app.schedules.run_now("job") for _ in range(3)]
        eventually(lambda: len(job.begun) == 1)
        assert app.schedules.get("job").held == 2
        job.go.set()
        assert [result.get(timeout=30) for result in results] == ["done"] * 3
        assert job.begun == [result.id for result in results]
        eventually(lambda: app.schedules.get("job").running is None)


def test_cancel_revokes_the_one_before(app: TaskQ, start: Callable[..., Any]) -> None:
    job = Job(app, "cancel")
    with start():
        first = app.schedules.run_now("job")
        eventually(lambda: job.begun == [first.id])
        second = app.schedules.run_now("job")
        eventually(lambda: len(job.begun) == 2)
        job.go.set()
        assert second.get(timeout=30) == "done"
        eventually(first.ready)
        eventually(lambda: app.schedules.get("job").running is None)


@pytest.mark.parametrize("settings", [{"ignore_result": True}, {"delivery": "at_most_once"}], ids=str)
def test_no_kind_of_end_leaks(app: TaskQ, start: Callable[..., Any], settings: dict[str, Any]) -> None:
    job = Job(app, "skip", **settings)
    job.go.set()
    with start():
        for count in (1, 2, 3):
            app.schedules.run_now("job")
            eventually(lambda count=count: len(job.begun) == count)
            eventually(lambda: app.schedules.get("job").running is None)
    assert len(job.begun) == 3


def test_a_dead_letter_and_a_revoked_message_release_it(
    app: TaskQ, start: Callable[..., Any], redis_client: Any
) -> None:
    @app.task(name="bad", max_retries=0)
    def bad() -> None:
        raise ValueError("no")

    app.schedules.add("bad", every("30d"), "bad", overlap="skip")
    waits = app.schedules.run_now("bad")
    waits.revoke()
    with start():
        eventually(lambda: app.schedules.get("bad").running is None)
        app.schedules.run_now("bad")
        eventually(lambda: app.schedules.get("bad").running is None)
        assert [fire.outcome for fire in app.schedules.history("bad")] == ["FAILURE", "REVOKED"]
        assert app.dlq.purge(queue="default") == 1
