"""Order: messages of one ordering key run one after the other, across retries and crashes; others meanwhile."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from support.wait import eventually
from support.worker import run_async, run_burst, running_worker

from taskq import ConfigError, Context, Event, TaskQ


class Log:
    """Who ran when; notes when two of a key run at a time."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, int]] = []
        self.overlaps = 0
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def run(self, key: str, number: int) -> None:
        with self._lock:
            self.overlaps += key in self._busy
            self._busy.add(key)
        time.sleep(0.0005)
        with self._lock:
            self._busy.discard(key)
            self.ran.append((key, number))

    def of(self, key: str) -> list[int]:
        return [number for ran, number in self.ran if ran == key]


def test_calls_of_one_key_run_in_order(app: TaskQ) -> None:
    log = Log()

    @app.task
    def step(key: str, number: int) -> int:
        log.run(key, number)
        return number

    with running_worker(app, concurrency=8):
        results = []
        for number in range(20):
            for key in "abc":
                results.append(step.options(ordering_key=key).delay(key, number))
        assert [result.get(timeout=30) for result in results] == [number for number in range(20) for _ in "abc"]
    assert log.overlaps == 0
    assert log.of("a") == log.of("b") == log.of("c") == list(range(20))


def test_async_and_bulk_calls(app: TaskQ) -> None:
    log = Log()

    @app.task(ignore_result=True)
    async def step(key: str, number: int) -> None:
        log.run(key, number)

    async def send() -> None:
        for number in range(10):
            await step.options(ordering_key="a").adelay("a", number)

    run_async(app, send())
    with app.batch():
        for number in range(10, 300):
            step.options(ordering_key="a").delay("a", number)
    assert app.queues()[0].lag == 300
    run_burst(app)
    assert log.of("a") == list(range(300))


def test_a_retry_keeps_its_place(app: TaskQ) -> None:
    ran: list[tuple[str, int]] = []

    @app.task(bind=True, retry_backoff=0.05, retry_jitter=False)
    def step(self: Context, name: str) -> None:
        ran.append((name, self.attempt))
        if name == "first" and self.attempt < 3:
            raise ValueError("not yet")

    for name in ("first", "second"):
        step.options(ordering_key="k").delay(name)
    other = step.options(ordering_key="other").delay("other")
    with running_worker(app):
        other.get(timeout=30)
        eventually(lambda: len(ran) == 5)
    assert [each for each in ran if each[0] != "other"] == [("first", 1), ("first", 2), ("first", 3), ("second", 1)]
    assert ran.index(("other", 1)) < ran.index(("second", 1))


def test_the_next_one_runs_however_the_one_before_ended(app: TaskQ, redis_client: Any, namespace: str) -> None:
    ran: list[str] = []

    @app.task(max_retries=0)
    def step(name: str) -> None:
        ran.append(name)
        if name == "fails":
            raise ValueError("no")

    call = step.options(ordering_key="k")
    call.delay("fails")
    call.delay("revoked").revoke()
    step.options(ordering_key="k", expires=datetime(2001, 1, 1, tzinfo=UTC)).delay("expired")
    step.options(ordering_key="k", idempotency_key="i").delay("once")
    step.options(ordering_key="k", idempotency_key="i").delay("skipped")
    call.delay("last")
    run_burst(app)
    assert ran == ["fails", "once", "last"]
    app.dlq.replay()
    call.delay("after")
    run_burst(app)
    assert ran == ["fails", "once", "last", "fails", "after"]
    assert not redis_client.exists(f"{namespace}:{{default}}:lanes")


def test_a_delayed_call_takes_its_place_when_it_is_due(app: TaskQ) -> None:
    ran: list[str] = []
    app.task(name="step")(ran.append)
    step = app.tasks["step"]
    step.options(ordering_key="k", countdown=0.2, priority=9).delay("delayed")
    step.options(ordering_key="k").delay("now")
    with running_worker(app):
        eventually(lambda: len(ran) == 2)
    assert ran == ["now", "delayed"]


def test_purging_and_looking(app: TaskQ, redis_client: Any, namespace: str) -> None:
    ran: list[int] = []
    app.task(name="step")(ran.append)
    step = app.tasks["step"]
    results = [step.options(ordering_key="k").delay(n) for n in range(5)]
    later = step.options(ordering_key="k", countdown=60).delay(9)
    assert [result.status for result in results] == ["PENDING"] * 5
    assert later.status == "SCHEDULED"
    assert app.purge("default", delayed=True) == 6
    assert [result.status for result in (*results, later)] == ["REVOKED"] * 6
    assert not redis_client.exists(f"{namespace}:{{default}}:lanes")
    step.options(ordering_key="k").delay(7)
    run_burst(app)
    assert ran == [7]


def test_events_of_one_key_are_handled_in_order(app: TaskQ) -> None:
    app.topic("orders")
    log = Log()

    @app.subscriber("orders", group="g", ordered=True, bind=True, retry_backoff=0.01)
    def handle(self: Context, event: Event) -> None:
        if event.payload % 50 == 7 and self.attempt == 1:
            raise ValueError("once more")
        log.run(event.key or "", event.payload)

    app.publish_many("orders", range(300), key=lambda number: f"k{number % 3}")
    app.publish("orders", 1000)
    with running_worker(app):
        eventually(lambda: len(log.ran) == 301)
    assert log.overlaps == 0
    for remainder in range(3):
        assert log.of(f"k{remainder}") == list(range(remainder, 300, 3))


def test_order_outlives_a_lost_lease(app: TaskQ) -> None:
    """As after a crash: what ran is run again, first, and only then what came after it."""
    started = threading.Event()
    go_on = threading.Event()
    ran: list[tuple[str, int]] = []

    @app.task(bind=True)
    def step(self: Context, name: str) -> None:
        ran.append((name, self.deliveries))
        if name == "first" and not started.is_set():
            started.set()
            go_on.wait(30)

    with running_worker(app) as worker:
        for name in ("first", "second"):
            step.options(ordering_key="k").delay(name)
        assert started.wait(30)
        with running_worker(app):
            worker.hurry()
            eventually(lambda: len(ran) == 3)
        go_on.set()
    assert [name for name, _ in ran] == ["first", "first", "second"]


def test_what_cannot_be_used(app: TaskQ) -> None:
    app.topic("orders")

    @app.task(delivery="at_most_once")
    def once() -> None: ...

    @app.task
    def step() -> None: ...

    with pytest.raises(ConfigError, match="at_most_once"):
        once.options(ordering_key="k")
    with pytest.raises(ConfigError, match="ordering_key must be"):
        step.options(ordering_key="a\nb")
    with pytest.raises(ConfigError, match="ordered=True needs"):
        app.subscriber("orders", group="g", ordered=True, delivery="at_most_once")
