"""A worker is ready as long as every message that it holds runs, waits or has ended."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from support.wait import eventually
from support.worker import RunningWorker, running_worker

from taskq import Batch, TaskQ
from taskq.worker.process.process import is_ready
from taskq.worker.reporting.strays import WITHIN


def look(running: RunningWorker, later: float) -> bool:
    """Whether there are strays at a look so many seconds from now."""
    done = threading.Event()

    def now() -> None:
        running.worker.strays.look(time.monotonic() + later)
        done.set()

    running.call(now)
    assert done.wait(30)
    return running.worker.strays.any


def test_a_worker_whose_slots_run_long_tasks_is_ready(app: TaskQ) -> None:
    go = threading.Event()

    @app.task
    def slow(number: int) -> None:
        go.wait(60)

    @app.task(rate_limit="1/m")
    def rated(number: int) -> None: ...

    @app.task(batch=Batch(size=100, wait="1h"))
    def batched(items: list[Any]) -> None: ...

    with running_worker(app, concurrency=2) as running:
        try:
            for task in (batched, rated, slow):
                task.delay_many([(number,) for number in range(3)])
            eventually(lambda: running.worker._fetcher.held() >= 3 and len(running.worker._sync.running()) == 2)
            assert not look(running, 0)
            assert not look(running, 10 * WITHIN)
            assert is_ready(running.worker)
        finally:
            go.set()
    app.purge("default")


def test_a_message_that_nothing_knows_makes_it_unready(app: TaskQ, caplog: pytest.LogCaptureFixture) -> None:
    @app.task
    def lost() -> None: ...

    with running_worker(app) as running:
        running.worker._sync.submit = lambda deliveries: None  # type: ignore[method-assign]
        result = lost.delay()
        eventually(lambda: running.worker._fetcher.held() == 1)
        assert not look(running, 0)
        assert is_ready(running.worker)
        assert look(running, WITHIN + 1)
        assert not is_ready(running.worker)
        assert f"[{result.id}] is held and nothing runs it" in caplog.text
        running.hurry()
    with running_worker(app):
        result.get(timeout=30)
