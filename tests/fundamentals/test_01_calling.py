"""A task is a function. Call it, or send it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.worker import run_async, running_worker

from taskq import TaskQ
from taskq.errors import ConfigError


def test_calling_a_task_runs_the_function_here(app: TaskQ) -> None:
    @app.task
    def add(a: int, b: int = 1) -> int:
        return a + b

    assert add(2, b=3) == 5


def test_delay_sends_it_to_a_worker(app: TaskQ) -> None:
    @app.task
    def add(a: int, b: int = 1) -> int:
        return a + b

    with running_worker(app):
        assert add.delay(2).get(timeout=30) == 3
        assert add.delay(2, b=3).get(timeout=30) == 5


def test_messages_sent_before_the_worker_starts_wait_for_it(app: TaskQ) -> None:
    @app.task
    def double(x: int) -> int:
        return 2 * x

    results = [double.delay(x) for x in range(10)]
    with running_worker(app):
        assert [result.get(timeout=30) for result in results] == [2 * x for x in range(10)]


def test_apply_async_is_the_untyped_form(app: TaskQ) -> None:
    @app.task
    def add(a: int, b: int = 1) -> int:
        return a + b

    with running_worker(app):
        assert add.apply_async((2,), {"b": 3}).get(timeout=30) == 5


def test_async_code_sends_with_adelay(app: TaskQ) -> None:
    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    async def program() -> tuple[int, int]:
        first = await add.adelay(1, 2)
        second = await add.options(priority=9).adelay(3, 4)
        return await first, await second

    with running_worker(app):
        assert run_async(app, program()) == (3, 7)


def test_many_messages_leave_together(app: TaskQ) -> None:
    @app.task
    def add(a: int, b: int = 1) -> int:
        return a + b

    async def program() -> list[int]:
        results = await add.adelay_many([(1,), (2, 2)])
        return [await result for result in results]

    with running_worker(app):
        results = add.delay_many([(1,), (2, 2)])
        assert [result.get(timeout=30) for result in results] == [2, 4]
        assert run_async(app, program()) == [2, 4]


def test_a_task_can_be_sent_by_name_without_its_code(app: TaskQ, make_app: type[TaskQ]) -> None:
    @app.task(name="shop.add")
    def add(a: int, b: int = 1) -> int:
        return a + b

    elsewhere = make_app()
    with running_worker(app):
        assert elsewhere.send_task("shop.add", (2,), {"b": 5}).get(timeout=30) == 7
        assert app.send_task("shop.add", (2,)).get(timeout=30) == 3


def test_any_number_of_calls_is_sent_page_by_page(app: TaskQ) -> None:
    @app.task
    def note(x: int) -> None: ...

    read: list[int] = []
    told: list[tuple[int, int]] = []

    def rows() -> Iterator[tuple[int]]:
        for number in range(2500):
            read.append(number)
            yield (number,)

    sent = note.delay_all(rows(), progress=lambda count: told.append((count, len(read))))
    assert sent == 2500
    assert told == [(1000, 1000), (2000, 2000), (2500, 2500)], "no row is read before its page's turn"
    assert app.purge("default") == 2500


def test_what_no_worker_could_read_is_refused_before_it_is_sent(app: TaskQ) -> None:
    for name in ("", 5):
        with pytest.raises(ConfigError, match="the name of a task"):
            app.send_task(name)  # type: ignore[arg-type]
    for headers in (5, {1: 2}):
        with pytest.raises(ConfigError, match="headers must be a mapping"):
            app.send_task("shop.add", headers=headers)
    assert sum(queue.backlog for queue in app.queues()) == 0
