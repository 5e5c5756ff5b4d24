"""What a worker tells the views: who it is, what it runs, what it has ended."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.wait import eventually
from support.worker import run_burst, running_worker

from taskq import TaskQ
from taskq.broker.views.ended import EACH, read_ended
from taskq.broker.views.totals import read_history, read_totals
from taskq.broker.views.workers import WorkerInfo, read_workers
from taskq.worker.reporting import report


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "EVERY", 0.05)


def workers(app: TaskQ) -> list[WorkerInfo]:
    return read_workers(app.sync_broker.pipeline, app.keys, ["default", "other"])


def record_of(app: TaskQ) -> Any:
    (worker,) = workers(app)
    assert worker.record is not None
    return worker.record


def test_a_worker_says_what_it_is_and_what_it_runs(app: TaskQ) -> None:
    go_on = threading.Event()
    app.task(name="wait", queue="other")(lambda: go_on.wait(30))
    with running_worker(app, queues=["default", "other"], concurrency=3):
        result = app.tasks["wait"].delay()
        record = eventually(lambda: record_of(app).busy and record_of(app))
        assert (record.app, record.pid, record.pool, record.slots) == ("test", os.getpid(), "threads", 3)
        assert (record.queues, record.busy_by_queue, record.async_slots) == (["default", "other"], {"other": 1}, 0)
        assert [(run.task, run.id, run.queue, run.attempt) for run in record.running] == [
            ("wait", result.id, "other", 1)
        ]
        assert abs(record.running[0].started_at - record.written_at) < 10_000
        assert record.rss > 1_000_000
        (worker,) = workers(app)
        assert worker.alive
        assert worker.heartbeat_age is not None
        assert 0 <= worker.heartbeat_age < 15
        go_on.set()
        eventually(lambda: record_of(app).processed == 1 and not record_of(app).running)
    assert workers(app) == []


def test_what_ended_is_counted_by_task_and_state(app: TaskQ) -> None:
    def fail() -> None:
        raise ValueError("no")

    app.task(name="work")(lambda: None)
    app.task(name="fail", max_retries=0)(fail)
    with running_worker(app):
        for _ in range(3):
            app.tasks["work"].delay()
        app.tasks["fail"].delay()
        queue = app.keys.queue("default")
        eventually(lambda: len(read_totals(app.sync_broker.pipeline, [queue])["default"]) == 2)
    totals = read_totals(app.sync_broker.pipeline, [queue])["default"]
    assert {task: found.states for task, found in totals.items()} == {"work": {"SUCCESS": 3}, "fail": {"FAILURE": 1}}
    minutes = read_history(app.sync_broker.pipeline, [queue])["default"]
    assert sum(minute.sums.ended for minute in minutes) == 4
    assert sum(minute.sums.failed for minute in minutes) == 1
    assert sum(minute.sums.waits for minute in minutes) >= 1
    app.dlq.purge()


def test_the_last_counts_are_written_at_the_stop(app: TaskQ, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "EVERY", 3600.0)
    app.task(name="work")(lambda: None)
    with running_worker(app):
        eventually(lambda: record_of(app))
        app.tasks["work"].delay().get(timeout=30)
    assert read_totals(app.sync_broker.pipeline, [app.keys.queue("default")])["default"]["work"].runs == 1


def test_the_latest_that_ended_are_told_with_outcome_runtime_and_worker(app: TaskQ) -> None:
    def fail() -> None:
        raise ValueError("no")

    app.task(name="work")(lambda: time.sleep(0.01))
    app.task(name="quiet", ignore_result=True)(lambda: None)
    app.task(name="fail", max_retries=0)(fail)
    keys = app.keys.queue("default")
    with running_worker(app, concurrency=1) as running:
        sent = [app.tasks[name].delay() for name in ("work", "quiet", "fail")]
        found = eventually(lambda: len(rows := read_ended(app.sync_broker.pipeline, [keys])) == 3 and rows)
        by_id = {row.id: row for _, row in found}
        worker = running.consumer.decode()
    rows = [by_id[result.id] for result in sent]
    assert [(row.task, row.state, row.kept, row.worker) for row in rows] == [
        ("work", "SUCCESS", True, worker),
        ("quiet", "SUCCESS", False, worker),
        ("fail", "FAILURE", True, worker),
    ]
    assert rows[0].runtime >= 0.01
    assert [row.attempt for row in rows] == [1, 1, 1]
    app.dlq.purge()


def test_of_many_that_end_together_a_sample_is_told(app: TaskQ, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "EVERY", 3600.0)  # one report, at the stop
    app.task(name="work", ignore_result=True)(lambda: None)
    app.tasks["work"].delay_many([()] * 500)
    keys = app.keys.queue("default")
    run_burst(app)
    assert 0 < len(read_ended(app.sync_broker.pipeline, [keys])) <= 2 * EACH  # one report early, one at the stop
    assert read_totals(app.sync_broker.pipeline, [keys])["default"]["work"].runs == 500


def test_a_worker_without_record_or_with_an_odd_one_is_shown(app: TaskQ, redis_client: Any) -> None:
    consumers = app.keys.queue("default").consumers
    redis_client.zadd(consumers, {"old:1:aa": 4 * 10**12, "odd:1:bb": 4 * 10**12, "!1dead:1:cc": 0})
    redis_client.set(app.keys.worker(b"odd:1:bb"), b"\xc1", px=10_000)
    assert [(worker.name, worker.record, worker.alive) for worker in workers(app)] == [
        ("dead:1:cc", None, False),
        ("odd:1:bb", None, True),
        ("old:1:aa", None, True),
    ]
    redis_client.delete(consumers)


def test_trouble_with_the_report_does_not_touch_the_lease(
    make_app: Callable[..., TaskQ], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(lease_timeout=1)
    app.task(name="work")(lambda: 7)
    asked = threading.Event()

    def broken(*args: object) -> None:
        asked.set()
        raise RuntimeError("a bug")

    monkeypatch.setattr("taskq.worker.worker.describe", broken)
    with running_worker(app):
        assert asked.wait(30)
        assert app.tasks["work"].delay().get(timeout=30) == 7
        assert [worker.alive for worker in workers(app)] == [True]
