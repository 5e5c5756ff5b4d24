"""Time limits: where they strike, and that nothing of a run outlives it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support.wait import eventually
from support.worker import running_worker

from taskq import Batch, ConfigError, SoftTimeLimitExceededError, TaskQ, TimeLimitExceededError, current_task
from taskq.values.delivery import Delivery
from taskq.worker.running.limits import within_limits


def interrupted(*strikes: type[Exception]) -> Callable[[], None]:
    """A way to shut that is struck by each of *strikes* in turn, before it succeeds."""
    left = list(strikes)

    def shut() -> None:
        if left:
            raise left.pop(0)()

    return shut


LATE: list[list[type[Exception]]] = [
    [],
    [SoftTimeLimitExceededError],
    [TimeLimitExceededError],
    [SoftTimeLimitExceededError, TimeLimitExceededError],
]


@pytest.mark.parametrize("strikes", LATE)
def test_a_limit_that_comes_too_late_changes_nothing(strikes: list[type[Exception]]) -> None:
    assert within_limits(lambda: None, interrupted(*strikes), lambda *args, **kwargs: (args, kwargs), 1, x=2) == (
        (1,),
        {"x": 2},
    )


@pytest.mark.parametrize("strikes", LATE)
def test_an_error_stays_the_error_when_a_limit_comes_too_late(strikes: list[type[Exception]]) -> None:
    def fail() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        within_limits(lambda: None, interrupted(*strikes), fail)


def test_a_limit_inside_the_function_is_the_error() -> None:
    def struck() -> None:
        raise SoftTimeLimitExceededError

    with pytest.raises(SoftTimeLimitExceededError):
        within_limits(lambda: None, interrupted(TimeLimitExceededError), struck)


def test_an_error_holds_nothing_of_the_run() -> None:
    class Big:
        pass

    def fail() -> None:
        big = Big()
        kept.append(weakref.ref(big))
        raise KeyError(1)

    kept: list[weakref.ref[Big]] = []
    gc.disable()
    try:
        with pytest.raises(KeyError):
            within_limits(lambda: None, lambda: None, fail)
        assert kept[0]() is None
    finally:
        gc.enable()


def alive(names: set[str]) -> int:
    """Deliveries of these tasks that something still holds."""
    gc.collect()
    return sum(isinstance(each, Delivery) and each.message.task in names for each in gc.get_objects())


def declare(app: TaskQ) -> dict[str, tuple[Any, dict[str, Any]]]:
    """A task for every option that arms something for a run, and how it is called."""

    def work(number: int) -> None:
        pass

    async def awork(number: int) -> None:
        pass

    def by_batch(items: list[Any]) -> None:
        pass

    def register(function: Any, name: str, **settings: Any) -> Any:
        return app.register(function, name=name, bind=False, settings=settings)

    long = {"soft_time_limit": 3500, "time_limit": 3600}
    return {
        "limited": (register(work, "limited", **long), {}),
        "alimited": (register(awork, "alimited", **long), {}),
        "called": (register(work, "called"), long),
        "batched": (register(by_batch, "batched", batch=Batch(size=7, wait="50ms"), **long), {}),
        "rated": (register(work, "rated", rate_limit="100000/s", **long), {}),
        "once": (register(work, "once", delivery="at_most_once", **long), {}),
        "ordered": (register(work, "ordered"), {"ordering_key": "k", **long}),
        "keyed": (register(work, "keyed"), {"expires": 3600, **long}),
    }


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_what_has_ended_is_held_by_nothing(app: TaskQ, pool: str) -> None:
    tasks = declare(app)
    with running_worker(app, pool=pool) as running:
        for task, options in tasks.values():
            results = [task.options(**options).delay(number) for number in range(40)]
            assert [result.get(timeout=30) for result in results] == [None] * 40
        eventually(lambda: running.worker._fetcher.held() == 0)
        # what runs last may be held by the thread that ran it; the rest must be gone although the worker goes on
        eventually(lambda: alive(set(tasks)) <= 2 * len(tasks), message=lambda: f"{alive(set(tasks))} are held")


@pytest.mark.soak
@pytest.mark.parametrize("name", ["limited", "alimited", "called", "batched", "rated", "once", "ordered", "keyed"])
def test_memory_stays_flat_whatever_a_run_arms(app: TaskQ, name: str) -> None:
    task, options = declare(app)[name]
    call = task.options(**options)
    with running_worker(app) as running:
        for _ in range(20):
            for number in range(1000):
                call.delay(number)
            eventually(lambda: running.worker._fetcher.held() == 0 and not app.queues()[0].backlog, timeout=120)
            assert alive({name}) <= 600  # what the worker may hold ahead
    print(f"{name}: 20,000 runs, {alive({name})} deliveries left")


def test_a_soft_limit_above_the_hard_one_is_refused(make_app: Callable[..., TaskQ]) -> None:
    app = make_app()

    def work() -> None:
        pass

    with pytest.raises(ConfigError, match=r"task a: soft_time_limit \(10 s\) is above time_limit \(5 s\)"):
        app.task(name="a", soft_time_limit=10, time_limit=5)(work)
    soft = app.task(name="soft", soft_time_limit=10)(work)
    hard = app.task(name="hard", time_limit=5)(work)
    with pytest.raises(ConfigError, match=r"the task's soft_time_limit \(10 s\) is above time_limit \(5 s\)"):
        soft.options(time_limit=5)
    with pytest.raises(ConfigError, match=r"soft_time_limit \(10 s\) is above the task's time_limit \(5 s\)"):
        hard.apply_async(soft_time_limit="10s")
    with pytest.raises(ConfigError, match=r"soft_time_limit \(3 s\) is above time_limit \(2 s\)"):
        app.send_task("elsewhere", soft_time_limit=3, time_limit=2)
    soft.options(soft_time_limit=5, time_limit=5)


def test_limits_of_the_configuration_are_looked_at_too(make_app: Callable[..., TaskQ]) -> None:
    with pytest.raises(ConfigError, match=r"task_soft_time_limit \(10 s\) is above task_time_limit \(5 s\)"):
        make_app(task_soft_time_limit=10, task_time_limit=5)
    app = make_app(task_soft_time_limit=10)
    with pytest.raises(ConfigError, match=r"the app's soft_time_limit \(10 s\) is above time_limit \(5 s\)"):
        app.task(name="hard", time_limit=5)(lambda: None)


def test_both_limits_are_in_the_context(app: TaskQ) -> None:
    @app.task(soft_time_limit=30, time_limit=60)
    def tell() -> list[float | None]:
        return [current_task().soft_time_limit, current_task().time_limit]

    with running_worker(app):
        assert tell.delay().get(timeout=30) == [30, 60]
        assert tell.options(soft_time_limit=20).delay().get(timeout=30) == [20, 60]
