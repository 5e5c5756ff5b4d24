"""Where messages go, and which of them goes first."""

from __future__ import annotations

import pytest
from support.worker import running_worker

from taskq import ConfigError, TaskQ, TaskState


def test_a_worker_takes_the_queues_it_is_given(app: TaskQ) -> None:
    @app.task(queue="mail")
    def send() -> str:
        return "sent"

    with running_worker(app, queues=["mail"]):
        elsewhere = send.options(queue="slow").delay()
        assert send.delay().get(timeout=30) == "sent"
        assert elsewhere.status is TaskState.PENDING
    with running_worker(app, queues=["slow"]):
        assert elsewhere.get(timeout=30) == "sent"


def test_without_a_choice_it_takes_the_queues_of_its_tasks(app: TaskQ) -> None:
    @app.task(queue="mail")
    def send() -> str:
        return "sent"

    @app.task
    def ping() -> str:
        return "pong"

    with running_worker(app):
        assert [send.delay().get(timeout=30), ping.delay().get(timeout=30)] == ["sent", "pong"]


def test_a_higher_priority_is_sooner(app: TaskQ) -> None:
    order: list[int] = []

    @app.task
    def note(priority: int) -> None:
        order.append(priority)

    results = [note.options(priority=priority).delay(priority) for priority in (0, 5, 9, 3, 7)]
    with running_worker(app, concurrency=1):
        for result in results:
            result.get(timeout=30)
    assert order == [9, 7, 5, 3, 0]


def test_a_priority_that_is_new_reaches_a_running_worker(app: TaskQ) -> None:
    @app.task
    def ping() -> str:
        return "pong"

    with running_worker(app):
        assert ping.options(priority=8).delay().get(timeout=30) == "pong"
        assert ping.options(priority=2, countdown=0.05).delay().get(timeout=30) == "pong"


@pytest.mark.parametrize("priority", [-1, 10, "high", True, 1.5])
def test_a_priority_is_0_to_9(app: TaskQ, priority: object) -> None:
    @app.task
    def ping() -> None: ...

    with pytest.raises(ConfigError, match="priority"):
        ping.options(priority=priority)  # type: ignore[typeddict-item]


@pytest.mark.parametrize("name", ["", "a b", "{x}", "a:b", "x" * 101])
def test_a_queue_name_cannot_reach_into_anothers_keys(app: TaskQ, name: str) -> None:
    @app.task
    def ping() -> None: ...

    with pytest.raises(ConfigError, match="queue"):
        ping.options(queue=name)
