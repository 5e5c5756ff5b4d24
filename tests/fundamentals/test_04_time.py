"""Later, or not at all: countdown, eta, expires."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from support.worker import running_worker

from taskq import ConfigError, TaskExpiredError, TaskQ, TaskState


def test_countdown_waits_that_long(app: TaskQ) -> None:
    @app.task
    def now() -> float:
        return time.time()

    with running_worker(app):
        sent = time.time()
        result = now.options(countdown=0.3).delay()
        assert result.status is TaskState.SCHEDULED
        assert result.get(timeout=30) >= sent + 0.29


def test_eta_is_an_instant(app: TaskQ) -> None:
    @app.task
    def now() -> float:
        return time.time()

    with running_worker(app):
        due = datetime.now(UTC) + timedelta(seconds=0.3)
        assert now.options(eta=due).delay().get(timeout=30) >= due.timestamp() - 0.01


def test_an_eta_without_zone_is_refused(app: TaskQ) -> None:
    @app.task
    def ping() -> None: ...

    with pytest.raises(ConfigError, match="timezone-aware"):
        ping.options(eta=datetime(2030, 1, 1))
    with pytest.raises(ConfigError, match="out of range"):
        ping.options(eta=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=10))))
    with pytest.raises(ConfigError, match="countdown or eta"):
        ping.options(countdown=1, eta=datetime.now(UTC))


def test_an_eta_in_the_past_runs_at_once(app: TaskQ) -> None:
    @app.task
    def ping() -> str:
        return "pong"

    with running_worker(app):
        result = ping.options(eta=datetime.now(UTC) - timedelta(days=1)).delay()
        assert result.get(timeout=30) == "pong"


def test_the_earliest_comes_first_whatever_the_order_of_sending(app: TaskQ) -> None:
    order: list[str] = []

    @app.task
    def note(name: str) -> None:
        order.append(name)

    with running_worker(app, concurrency=1):
        later = note.options(countdown=0.6).delay("later")
        note.options(countdown=0.1).delay("sooner").get(timeout=30)
        later.get(timeout=30)
    assert order == ["sooner", "later"]


def test_an_expired_message_never_starts(app: TaskQ) -> None:
    ran: list[int] = []

    @app.task
    def note(x: int) -> None:
        ran.append(x)

    result = note.options(expires=datetime.now(UTC) - timedelta(seconds=1)).delay(1)
    with running_worker(app):
        with pytest.raises(TaskExpiredError):
            result.get(timeout=30)
        assert note.options(expires="1h").delay(2).get(timeout=30) is None
    assert result.status is TaskState.EXPIRED
    assert ran == [2]
