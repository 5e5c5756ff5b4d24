"""What a worker cannot start soon it does not hold, whatever the mix of tasks: another worker may start it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from support.wait import eventually
from support.worker import RunningWorker, running_worker

from taskq import Batch, TaskQ
from taskq.broker import scripts
from taskq.values.message import Message, encode

MakeApp = Callable[..., TaskQ]
FEW = 2
"""Slots for sync tasks."""


class Mixed:
    """An app with sync and async tasks; the sync ones wait until they are let go."""

    def __init__(self, app: TaskQ, client: Any) -> None:
        self.app = app
        self._client = client
        self.go = threading.Event()
        self.started: list[int] = []

        @app.task
        def slow(number: int) -> int:
            self.started.append(number)
            assert self.go.wait(20)
            return number

        @app.task
        def quick(number: int) -> int:
            return number

        @app.task
        async def light(number: int) -> int:
            return number

        self.slow, self.quick, self.light = slow, quick, light

    def train(self) -> None:
        """Have the worker learn that tasks are short."""
        for result in self.quick.delay_many([(n,) for n in range(500)]):
            result.get(timeout=30)

    def comes_to_hold(self, worker: RunningWorker, most: int) -> None:
        """Wait until *worker* holds so little, while async messages end all the time: it never stands still."""
        eventually(lambda: self.light.delay(1).get(timeout=30) == 1 and self.held(worker.consumer) <= most)

    def held(self, consumer: bytes | None = None) -> int:
        """How many messages a worker holds; without a name: all workers."""
        keys = self.app.keys.queue("default")
        found = 0
        for stream in scripts.streams_of(keys, [5]):
            pending = self._client.xpending(stream, "taskq")
            named = {one["name"]: one["pending"] for one in pending["consumers"]}
            found += sum(named.values()) if consumer is None else named.get(consumer, 0)
        return found


@pytest.fixture
def mixed(app: TaskQ, redis_client: Any) -> Iterator[Mixed]:
    made = Mixed(app, redis_client)
    yield made
    made.go.set()


def test_while_all_threads_are_busy_nothing_is_held_for_them(mixed: Mixed) -> None:
    with running_worker(mixed.app, concurrency=FEW) as worker:
        mixed.train()
        results = mixed.slow.delay_many([(n,) for n in range(FEW)]) + mixed.quick.delay_many([(n,) for n in range(50)])
        eventually(lambda: len(mixed.started) == FEW)
        mixed.comes_to_hold(worker, FEW)
        mixed.go.set()
        assert [result.get(timeout=30) for result in results] == [*range(FEW), *range(50)]


def test_async_messages_go_past_those_that_wait_for_a_thread(mixed: Mixed) -> None:
    with running_worker(mixed.app, concurrency=FEW) as worker:
        waiting = mixed.slow.delay_many([(n,) for n in range(3 * FEW)])
        eventually(lambda: len(mixed.started) == FEW)
        for number in range(20):
            assert mixed.light.delay(number).get(timeout=30) == number
            waiting.append(mixed.slow.delay(100 + number))
        mixed.comes_to_hold(worker, FEW)
        mixed.go.set()
        for result in waiting:
            result.get(timeout=30)


def test_short_messages_run_on_the_idle_worker_while_another_is_full(mixed: Mixed) -> None:
    with running_worker(mixed.app, concurrency=1), running_worker(mixed.app, concurrency=1):
        mixed.train()
        long = mixed.slow.delay(0)
        for result in mixed.quick.delay_many([(n,) for n in range(200)]):
            result.get(timeout=30)
        assert not long.ready()
        mixed.go.set()
        assert long.get(timeout=30) == 0


def test_what_a_full_worker_has_handed_back_it_does_not_fetch_again(mixed: Mixed) -> None:
    handed_back: list[int] = []
    mixed.app.hooks.listen(
        "settled",
        lambda told: handed_back.extend(
            [many.count for many in getattr(told, "unusual", ()) if many.state == "RELEASED"]
        ),
    )
    with running_worker(mixed.app, concurrency=1), running_worker(mixed.app, concurrency=1):
        mixed.train()
        results = mixed.slow.delay_many([(0,), (1,)]) + mixed.quick.delay_many([(n,) for n in range(100)])
        eventually(lambda: len(mixed.started) == 2 and mixed.held() == 2)
        before = sum(handed_back)
        for number in range(30):  # both are full, and go on with what is for others
            assert mixed.light.delay(number).get(timeout=30) == number
        assert sum(handed_back) - before <= 200, "they pass the same messages to and fro"
        assert mixed.held() == 2
        mixed.go.set()
        for result in results:
            result.get(timeout=30)


def test_messages_are_given_back_when_tasks_become_longer(mixed: Mixed) -> None:
    """Some end all the time, so that the worker never stands still."""
    permits = threading.Semaphore(0)

    @mixed.app.task
    def longer() -> None:
        permits.acquire(timeout=60)

    over = threading.Event()

    def let_go() -> None:
        while not over.wait(0.1):
            permits.release()

    with running_worker(mixed.app, concurrency=FEW) as worker:
        mixed.train()
        results = longer.delay_many([() for _ in range(300)])
        threading.Thread(target=let_go, daemon=True).start()
        eventually(lambda: mixed.held(worker.consumer) <= FEW)
        assert sum(result.ready() for result in results) < 150
        over.set()
        permits.release(300)
        for result in results:
            result.get(timeout=30)


def test_suspects_that_cannot_start_are_left_to_others(mixed: Mixed, redis_client: Any) -> None:
    front = scripts.streams_of(mixed.app.keys.queue("default"), [])[0]
    with running_worker(mixed.app, concurrency=FEW) as worker:
        for number in range(100):
            redis_client.xadd(front, {"m": encode(Message(1, f"s{number}", mixed.slow.name, [number], {})), "c": "0"})
        eventually(lambda: len(mixed.started) == FEW)
        mixed.comes_to_hold(worker, FEW + 8)
        mixed.go.set()
        eventually(lambda: len(mixed.started) == 100)
        eventually(lambda: not mixed.held())


def test_calls_of_a_batch_task_do_not_hold_up_others(mixed: Mixed) -> None:
    size = 10

    @mixed.app.task(batch=Batch(size=size, wait=0.01))
    def collect(items: list[Any]) -> None:
        mixed.started.append(len(items))
        assert mixed.go.wait(20)

    with running_worker(mixed.app, concurrency=1) as worker:
        results = collect.delay_many([(n,) for n in range(100)])
        eventually(lambda: mixed.started)
        mixed.comes_to_hold(worker, size)
        mixed.go.set()
        for result in results:
            result.get(timeout=30)


def test_queues_of_sync_and_of_async_tasks_do_not_hold_up_each_other(app: TaskQ, redis_client: Any) -> None:
    go = threading.Event()

    def held(stream: bytes) -> int:
        return int(redis_client.xpending(stream, "taskq")["pending"])

    @app.task(queue="heavy")
    def slow(number: int) -> int:
        assert go.wait(20)
        return number

    @app.task(queue="light")
    async def light(number: int) -> int:
        await asyncio.sleep(0)
        return number

    try:
        with running_worker(app, concurrency=1) as worker:
            results = slow.delay_many([(n,) for n in range(10)])
            stream = app.keys.queue("heavy").stream(5)
            eventually(lambda: light.delay(1).get(timeout=30) == 1 and held(stream) == 1)
            go.set()
            assert [result.get(timeout=30) for result in results] == list(range(10))
            assert worker.running
    finally:
        go.set()


def test_messages_that_wait_for_a_permit_and_a_thread_are_left_to_others(mixed: Mixed) -> None:
    @mixed.app.task(rate_limit="1000/s")
    def limited(number: int) -> int:
        return number

    with running_worker(mixed.app, concurrency=FEW) as worker:
        mixed.train()
        results = mixed.slow.delay_many([(n,) for n in range(FEW)])
        eventually(lambda: len(mixed.started) == FEW)
        results += limited.delay_many([(n,) for n in range(50)])
        mixed.comes_to_hold(worker, FEW)
        mixed.go.set()
        assert [result.get(timeout=30) for result in results] == [*range(FEW), *range(50)]


def test_what_steps_past_others_leaves_them_their_order(app: TaskQ, redis_client: Any) -> None:
    """One thread, busy; then three priorities of sync messages, with async ones between and behind them."""
    go, begun, order = threading.Event(), threading.Event(), []

    @app.task
    def first() -> None:
        begun.set()
        assert go.wait(20)

    @app.task
    def note(number: int) -> None:
        order.append(number)

    @app.task
    async def light(number: int) -> int:
        return number

    try:
        with running_worker(app, concurrency=1):
            first.delay()
            assert begun.wait(20)
            waiting = []
            for number, priority in enumerate((5, 1, 5, 9, 1, 9)):
                waiting.append(note.options(priority=priority).delay(number))
                assert light.options(priority=priority).delay(number).get(timeout=30) == number
            go.set()
            for result in waiting:
                result.get(timeout=30)
    finally:
        go.set()
    assert order == [3, 5, 0, 2, 1, 4]


def test_short_messages_are_not_given_back(mixed: Mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way back and here again costs more than their run; long ones are what another worker should have."""
    with running_worker(mixed.app, concurrency=FEW) as running:
        worker = running.worker
        demand, (link,) = worker._fetcher._demand, worker._links
        taken = [SimpleNamespace(task=mixed.quick, suspect=False) for _ in range(300)]
        executor = worker._intake.executor_of(mixed.quick)
        monkeypatch.setattr(executor, "load", lambda: FEW)
        monkeypatch.setattr(executor, "service_time", lambda: 0.0001)
        assert demand.surplus(link, taken) == []  # type: ignore[arg-type]
        monkeypatch.setattr(executor, "service_time", lambda: 1.0)
        assert len(demand.surplus(link, taken)) == 300  # type: ignore[arg-type]
        monkeypatch.undo()
