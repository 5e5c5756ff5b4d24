"""A task whose work has not run is never a success: in every pool, and whatever kind of task it is."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.wait import eventually
from support.worker import run_burst, running_worker

from taskq import Batch, BatchItem, TaskQ, Window, every
from taskq.errors import TaskFailedError


async def work() -> int:
    return 1


def steps() -> Iterator[int]:
    yield 1


async def asteps() -> AsyncIterator[int]:
    yield 1


class Lazy:
    def __await__(self) -> Iterator[Any]:
        yield


RETURNED: dict[str, Callable[[], Any]] = {
    "coroutine": work,
    "generator": steps,
    "async generator": asteps,
    "expression": lambda: (each for each in [1]),
    "map": lambda: map(print, [1]),
    "future": concurrent.futures.Future,
    "awaitable": Lazy,
    "list of coroutines": lambda: [work(), work()],
    "dict of coroutines": lambda: {"a": work()},
}


@pytest.mark.filterwarnings("ignore:coroutine 'work' was never awaited")  # the second of a list
@pytest.mark.parametrize("ignore_result", [True, False], ids=["no result", "result"])
def test_what_a_task_returns_must_have_run(app: TaskQ, ignore_result: bool) -> None:
    for kind in RETURNED:

        @app.task(name=f"ordinary, {kind}", ignore_result=ignore_result)
        def ordinary(returned: str) -> Any:
            return RETURNED[returned]()

        @app.task(name=f"async, {kind}", ignore_result=ignore_result, delivery="at_most_once")
        async def asynchronous(returned: str) -> Any:
            return RETURNED[returned]()

        ordinary.delay(kind)
        asynchronous.delay(kind)
    run_burst(app)
    letters = {letter.task: letter.evidence for letter in app.dlq.page("default").letters}
    assert set(letters) == {f"{each}, {kind}" for kind in RETURNED for each in ("ordinary", "async")}
    assert {(each.error_type, each.attempts) for each in letters.values()} == {("NeverRanError", 1)}
    assert all("it returned" in each.error for each in letters.values())
    app.dlq.purge()


@pytest.mark.parametrize("pool", ["threads", "solo", "processes"])
def test_a_plain_wrapper_over_an_async_function_is_no_success(
    redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app: TaskQ, pool: str
) -> None:
    (tmp_path / "wrapped_app.py").write_text(
        f"""
import functools, sys
from taskq import TaskQ
app = TaskQ("wrapped", {redis_url!r}, namespace={namespace!r})

def logged(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args)
    return inner

@app.task(ignore_result=True)
@logged
async def wrapped(x):
    return x

class Adder:
    async def __call__(self, x):
        return x + 1

added = app.task(name="added")(Adder())
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    wrapped_app = __import__("wrapped_app")
    try:
        wrapped_app.wrapped.delay(1)
        result = wrapped_app.added.delay(1)
        run_burst(wrapped_app.app, pool=pool, app_path="wrapped_app:app")
        assert result.get(timeout=30) == 2
        (letter,) = app.dlq.page("default").letters
        assert (letter.task, letter.evidence.error_type) == ("wrapped_app.wrapped", "NeverRanError")
        assert "async def that awaits it" in letter.evidence.error
        app.dlq.purge()
    finally:
        wrapped_app.app.close()
        __import__("sys").modules.pop("wrapped_app")


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*args: Any) -> Any:
        return function(*args)

    return inner


def test_a_batch_that_has_not_run_fails_for_all_its_items(app: TaskQ) -> None:
    @app.task(batch=Batch(size=2, wait=0.01), ignore_result=True, name="all")
    @logged
    async def together(items: list[BatchItem]) -> None: ...

    @app.task(batch=Batch(size=2, wait=0.01), ignore_result=True, name="each")
    def one_by_one(items: list[BatchItem]) -> list[Any]:
        return [work() for _ in items]

    together.delay_many([(), ()])
    one_by_one.delay_many([(), ()])
    run_burst(app)
    letters = app.dlq.page("default").letters
    assert [letter.evidence.error_type for letter in letters] == ["NeverRanError"] * 4
    app.dlq.purge()


def test_subscribers_and_batch_jobs_run_or_fail(app: TaskQ) -> None:
    app.topic("orders")
    ran: list[str] = []

    class Handler:
        async def __call__(self, event: Any) -> None:
            ran.append("subscriber")

    class Job:
        async def __call__(self, window: Window) -> None:
            ran.append("job")

    app.subscriber("orders", group="runs")(Handler())
    app.subscriber("orders", group="fails")(logged(Handler()))
    job = app.batch_job(every(3600), source="orders", name="runs")(Job())
    broken = app.batch_job(every(3600), source="orders", name="fails")(logged(Job()))
    app.publish("orders", 1)
    with running_worker(app):
        job.delay().get(timeout=30)
        with pytest.raises(TaskFailedError, match="NeverRanError"):
            broken.delay().get(timeout=30)
        eventually(lambda: app.dlq.page("orders/fails").letters and "subscriber" in ran)
    assert sorted(ran) == ["job", "subscriber"]
    assert app.jobs.progress("fails").status != "done"


def test_a_wrapper_over_an_async_handler_of_broadcasts_runs_it(app: TaskQ) -> None:
    heard: list[Any] = []

    async def handle(payload: Any) -> None:
        await asyncio.sleep(0)
        heard.append(payload)

    app.on_broadcast("news")(logged(handle))
    with running_worker(app):
        eventually(lambda: app.broadcast("news", 7) == 1)
        eventually(lambda: 7 in heard)


def test_a_task_may_return_the_handle_of_what_it_has_sent(app: TaskQ) -> None:
    @app.task(name="last")
    def last() -> str:
        return "done"

    @app.task(name="first", ignore_result=True)
    def first() -> Any:
        return last.options(task_id="the-last").delay()

    first.delay()
    run_burst(app)
    assert app.result("the-last").get(timeout=30) == "done"
    assert not app.dlq.page("default").letters
