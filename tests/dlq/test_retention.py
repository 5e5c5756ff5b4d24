"""Dead letters are deleted where the app asks for it, never in silence, and never otherwise."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from support.wait import eventually
from support.worker import running_worker

from taskq.observe.metrics.worker import WorkerMetrics

Bury = Callable[..., str]


def test_what_is_beyond_the_number_goes_oldest_first(
    make_app: Any, bury: Bury, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(dlq_max_entries=3)
    registry = CollectorRegistry()
    WorkerMetrics(app, registry)
    bury(*(f"t{n}" for n in range(10)))
    with caplog.at_level(logging.WARNING, "taskq.worker"), running_worker(app):
        eventually(lambda: app.dlq.count() == 3)
        eventually(lambda: "deleted 7 dead letters of queue default for their count" in caplog.text)
        labels = {"ns": app.keys.namespace, "queue": "default", "reason": "count"}
        eventually(lambda: registry.get_sample_value("taskq_dlq_removed_total", labels) == 7)
    assert [letter.task_id for letter in app.dlq.list()] == ["t7", "t8", "t9"]
    assert [group.count for group in app.dlq.groups()] == [3]
    assert app.dlq.purge() == 3


def test_what_is_too_old_goes(make_app: Any, bury: Bury) -> None:
    app = make_app(dlq_retention=0.001)
    bury("a", "b")
    with running_worker(app):
        eventually(lambda: app.dlq.count() == 0)
    assert app.dlq.groups() == []


def test_nothing_goes_unasked(app: Any, bury: Bury) -> None:
    bury("a", "b")
    removed: list[Any] = []
    app.hooks.listen("dlq_removed", lambda *told: removed.append(told))

    @app.task
    def ping() -> str:
        return "pong"

    with running_worker(app):
        assert ping.delay().get(timeout=30) == "pong"
    assert (app.dlq.count(), removed) == (2, [])
    assert app.dlq.purge() == 2
