"""Your own task id: sent twice, it is one message."""

from __future__ import annotations

import asyncio

import pytest
from support.wait import eventually
from support.worker import run_async, running_worker

from taskq import ConfigError, TaskQ


def test_the_same_id_is_accepted_once(app: TaskQ, make_app: type[TaskQ]) -> None:
    ran: list[str] = []

    @app.task(name="note")
    def note(x: str) -> str:
        ran.append(x)
        return x

    first = note.options(task_id="order-7").delay("first")
    second = note.options(task_id="order-7").delay("second")
    assert first.id == second.id == "order-7"
    assert first == second
    run_async(app, note.options(task_id="order-7").adelay("third"))
    make_app().send_task("note", ("fourth",), task_id="order-7")
    note.options(task_id="order-7", countdown=0.01).delay("fifth")
    with running_worker(app):
        assert second.get(timeout=30) == "first"
        note.options(task_id="order-7").delay("sixth")
        assert note.options(task_id="order-8").delay("another").get(timeout=30) == "another"
        eventually(lambda: ran == ["first", "another"])


def test_coroutines_that_send_the_same_id_at_the_same_time_make_one_message(app: TaskQ) -> None:
    ran: list[int] = []

    @app.task
    async def echo(x: int) -> int:
        ran.append(x)
        return x

    async def program() -> list[int]:
        results = await asyncio.gather(*(echo.options(task_id=f"job-{x % 5}").adelay(x) for x in range(20)))
        return [await result for result in results]

    with running_worker(app):
        values = run_async(app, program())
    assert values == values[:5] * 4, "all handles of an id see the same message"
    assert [value % 5 for value in values[:5]] == [0, 1, 2, 3, 4]
    assert sorted(ran) == sorted(values[:5])


@pytest.mark.parametrize("task_id", ["", "x" * 201, "a\nb", 7])
def test_an_id_is_short_printable_text(app: TaskQ, task_id: object) -> None:
    @app.task
    def ping() -> None: ...

    with pytest.raises(ConfigError, match="task_id"):
        ping.options(task_id=task_id)  # type: ignore[typeddict-item]
