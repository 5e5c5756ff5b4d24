"""Settings reach every place that their documentation names; those of one subject are tested with that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.process import Proc
from support.worker import running_worker

from taskq import PeriodicEntry, TaskQ, Window, every
from taskq.embedded import EmbeddedRedis

Make = Callable[..., TaskQ]


def of_task(app: TaskQ, name: str) -> Any:
    @app.task(name="job")
    def job() -> None: ...

    return getattr(job.settings, name)


def of_async_task(app: TaskQ, name: str) -> Any:
    @app.task(name="job")
    async def job() -> None: ...

    return getattr(job.settings, name)


def of_batch_job(app: TaskQ, name: str) -> Any:
    app.topic("orders")

    @app.batch_job(every("1d"), source="orders", name="job")
    def job(window: Window) -> None: ...

    return getattr(job.settings, name)


def of_periodic_function(app: TaskQ, name: str) -> Any:
    @app.periodic(every("1d"))
    def job() -> None: ...

    return getattr(job.settings, name)


TASKS = (of_task, of_async_task, of_batch_job, of_periodic_function)
OF_TASKS = {
    "task_default_queue": ("mails", "queue", "mails"),
    "task_default_priority": (8, "priority", 8),
    "task_ignore_result": (True, "ignore_result", True),
    "task_soft_time_limit": ("3s", "soft_time_limit", 3.0),
    "task_time_limit": ("4s", "time_limit", 4.0),
    "result_expires": ("5m", "result_ttl_ms", 300_000),
    "failure_expires": ("6m", "failure_ttl_ms", 360_000),
}
"""Setting -> a value, the option of a task for which it is the default, and what that is then."""


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("setting", OF_TASKS)
@pytest.mark.parametrize("given", ["code", "environment"])
def test_defaults_of_tasks_reach_every_kind_of_task(
    setting: str, kind: Callable[[TaskQ, str], Any], given: str, make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, option, expected = OF_TASKS[setting]
    if given == "environment":
        monkeypatch.setenv(f"TASKQ_{setting.upper()}", str(value))
        app = make_app()
    else:
        app = make_app(**{setting: value})
    assert kind(app, option) == expected


@pytest.mark.parametrize("place", ["send_task", "schedules.add", "PeriodicEntry"])
def test_queue_and_priority_reach_what_names_a_task_that_is_not_known_here(
    place: str, make_app: Make, redis_client: Any
) -> None:
    app = make_app(task_default_queue="mails", task_default_priority=8)
    if place == "send_task":
        app.send_task("elsewhere.job")
    elif place == "schedules.add":
        app.schedules.add("often", every("1d"), "elsewhere.job")
        app.schedules.run_now("often")
    else:
        app.add_periodic(PeriodicEntry("often", "elsewhere.job", every("1d")))
        app.schedules.run_now("often")
    assert redis_client.xlen(app.keys.queue("mails").stream(8)) == 1
    redis_client.delete(app.keys.queue("mails").stream(8))


@pytest.mark.parametrize("kept", [0, 2])
def test_as_many_fires_are_remembered_as_the_setting_says(kept: int, make_app: Make, redis_client: Any) -> None:
    app = make_app(schedule_history=kept)
    app.schedules.add("often", every("1d"), "elsewhere.job")
    for _ in range(5):
        app.schedules.run_now("often")
        app.purge("default")
    # each has two entries: that it was fired, and how it ended
    assert redis_client.xlen(app.keys.queue("default").fires("often")) == 2 * kept
    assert {fire.outcome for fire in app.schedules.history("often")} == ({"REVOKED"} if kept else set())


def test_a_revoked_id_is_remembered_as_long_as_the_setting_says(make_app: Make, redis_client: Any) -> None:
    app = make_app(revoke_expires="2h")
    result = app.send_task("elsewhere.job", countdown=3600)
    result.revoke()
    revoked = app.keys.queue("default").revoked
    assert 7_100_000 < redis_client.pttl(revoked) <= 7_200_000
    app.purge("default", delayed=True)


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_slots_and_pool_reach_the_worker(pool: str, make_app: Make) -> None:
    app = make_app(worker_concurrency=3, worker_async_concurrency=7, worker_pool=pool, worker_prefetch=0)
    app.task(name="job")(lambda: None)

    @app.task(name="ajob")
    async def ajob() -> None: ...

    with running_worker(app) as running:
        assert running.worker.pool == pool
        slots = {executor.slots for executor in running.worker._intake.executors()}
        assert slots == {1 if pool == "solo" else 3, 7}


def test_a_worker_refuses_a_redis_that_can_lose_tasks(
    private_redis: Callable[..., EmbeddedRedis], spawn: Callable[..., Proc], tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text("from taskq import TaskQ\napp = TaskQ('shop')\n")
    server = private_redis(appendonly=False)
    worker = spawn(
        *("-m", "taskq", "worker", "-A", "shop:app"),
        env={"TASKQ_BROKER_URL": server.url, "TASKQ_STRICT_DURABILITY": "true"},
    )
    assert worker.wait() == 2
    assert "appendonly" in worker.output()
