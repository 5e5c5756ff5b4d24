"""``result.status`` tells where a message is: one that exists is found, in whatever place, and while it moves."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from support.wait import eventually
from support.worker import run_async, run_burst, running_worker

from taskq import TaskQ, TaskRevokedError, TaskState, every
from taskq.broker import scripts
from taskq.broker.views import messages
from taskq.values.message import new_id


@pytest.fixture
def backlog(app: TaskQ) -> list[Any]:
    """More messages than one script looks at; dropped by the test."""
    task = app.task(name="t")(lambda n: n)
    singles = [task.delay(n) for n in range(messages._AT_ONCE // 2)]
    return [*singles, *task.delay_many([(n,) for n in range(3 * messages._AT_ONCE)])]


def test_a_message_that_moves_is_never_unknown(app: TaskQ) -> None:
    @app.task
    def add(x: int) -> int:
        return x

    with running_worker(app):
        results = [(result := add.delay(n), result.status) for n in range(300)]
        assert TaskState.UNKNOWN not in {status for _, status in results}
        results[-1][0].get(timeout=30)


def test_every_message_of_a_backlog_is_found(app: TaskQ, backlog: list[Any]) -> None:
    assert Counter(result.status for result in backlog[::100]) == {"PENDING": len(backlog[::100])}
    assert {app.result(result.id, queue="default").status for result in backlog[::500]} == {"PENDING"}
    own = app.tasks["t"].options(task_id="order-7").delay(1)
    assert {own.status, app.result("order-7").status} == {"PENDING"}
    assert app.result(new_id().hex()).status is TaskState.UNTRACED, "not all of them were looked at"
    app.purge("default")
    assert app.result(new_id().hex()).status is TaskState.UNKNOWN, "all of them were"


def test_every_message_of_many_delayed_ones_is_found(app: TaskQ) -> None:
    task = app.task(name="t")(lambda n: n)
    later = [task.options(countdown=600).delay(n) for n in range(messages._AT_ONCE + 500)]
    assert {result.status for result in later[::100]} == {"SCHEDULED"}
    assert {app.result(result.id).status for result in later[::250]} == {"SCHEDULED"}
    app.purge("default", delayed=True)


def test_a_message_in_the_middle_of_two_producers_is_found_by_walking(app: TaskQ, backlog: list[Any]) -> None:
    task = app.task(name="t2")(lambda n: n)
    prepared = [task.prepared(n) for n in range(messages._AT_ONCE)]
    app.tasks["t"].delay_many([(n,) for n in range(messages._AT_ONCE)])
    app.send([outgoing for outgoing, _ in prepared])  # their ids are older than those before them
    assert {result.status for _, result in prepared[::200]} == {"PENDING"}
    app.purge("default")


def test_each_place_has_its_state(app: TaskQ) -> None:
    go = threading.Event()

    @app.task(name="t", max_retries=0, queue="work")
    def task(fails: bool = False) -> None:
        if fails:
            raise ValueError("no")
        go.wait(30)

    app.task(name="limited", rate_limit="1/h", queue="work")(lambda: None)
    app.schedules.add("night", every("30d"), "t", overlap="queue", queue="work")
    with running_worker(app, queues=["work"], concurrency=1) as running:
        dead = task.delay(True)
        eventually(lambda: dead.status is TaskState.FAILURE)
        app.tasks["limited"].delay().get(timeout=30)
        parked = app.tasks["limited"].delay()
        keys = app.keys.queue("work")
        eventually(lambda: app.sync_broker.execute("LLEN", keys.parked("limited")) == 1)
        runs = app.schedules.run_now("night")
        eventually(lambda: running.worker._fetcher.held())
        eventually(lambda: runs.status is TaskState.STARTED)
        app.pause("work")
        held = app.schedules.run_now("night")
        lane = [task.options(ordering_key="k").delay() for _ in range(3)]
        high, later = task.options(priority=9).delay(), task.options(countdown=600).delay()
        assert app.sync_broker.execute("LLEN", keys.held("night")) <= 1
        assert {each.status for each in (parked, held, *lane, high)} == {"PENDING"}
        assert later.status is TaskState.SCHEDULED
        assert run_async(app, later.astatus()) is TaskState.SCHEDULED
        assert not run_async(app, later.aready())
        app.schedules.remove("night")
        go.set()
        eventually(runs.ready)
        app.resume("work")
        for each in (*lane, high):
            each.get(timeout=30)
        for each in (later, parked):
            each.revoke()
        eventually(held.ready)
    assert app.purge("work", delayed=True) == 1
    app.dlq.purge()
    app.sync_broker.execute("DEL", keys.permits("limited"))


def test_what_is_revoked_while_it_waits_has_ended(app: TaskQ) -> None:
    task = app.task(name="t", queue="default")(lambda: None)
    waits = [
        task.delay(),
        *(task.options(ordering_key="k").delay() for _ in range(2)),
        task.options(priority=9).delay(),
    ]
    for each in waits:
        assert each.revoke()
        assert (each.status, each.ready()) == (TaskState.REVOKED, True)
        with pytest.raises(TaskRevokedError):
            each.get(timeout=30)
        assert not each.revoke()
    assert [(queue.lag, queue.delayed) for queue in app.queues()] == [(0, 0)]
    assert not app.sync_broker.execute("EXISTS", app.keys.queue("default").revoked)
    assert task.options(ordering_key="k").delay().status is TaskState.PENDING
    run_burst(app)


def test_what_is_revoked_and_has_not_ended_is_where_it_is(app: TaskQ) -> None:
    begun, go = threading.Event(), threading.Event()

    @app.task(name="t")
    def task() -> int:
        begun.set()
        go.wait(30)
        return 1

    later = task.options(countdown=600).delay()
    with running_worker(app, concurrency=1):
        runs = task.delay()
        assert begun.wait(30)
        assert runs.revoke()
        assert later.revoke()
        assert (runs.status, runs.ready()) == (TaskState.STARTED, False)
        assert (later.status, later.ready()) == (TaskState.SCHEDULED, False)
        go.set()
        eventually(runs.ready)
    app.purge("default", delayed=True)


def test_the_script_answers_with_the_outcome_first(app: TaskQ) -> None:
    result = app.task(name="t")(lambda: 7).delay()
    keys = app.keys.queue("default")
    call = scripts.find(keys, result.id, messages.id_on_wire(result.id), 10, [])
    outcome, revoked, complete, place, level, *_ = app.sync_broker.run(call)
    assert (outcome, revoked, complete, place, level) == (None, 0, 1, b"stream", b"5")
    run_burst(app)
    assert app.sync_broker.run(call)[1:] == [0, 1, b""]
    assert app.sync_broker.run(call)[0][:1] == b"S"


def test_a_dead_letter_without_an_outcome_has_failed(app: TaskQ) -> None:
    @app.task(name="bad", max_retries=0, ignore_result=True)
    def bad() -> None:
        raise ValueError("no")

    @app.task(name="kept", max_retries=0)
    def kept() -> None:
        raise ValueError("no")

    results = [bad.delay(), kept.delay()]
    run_burst(app)
    results[1].forget()
    for each in (results[0], *(app.result(result.id) for result in results)):
        assert (each.status, each.ready(), each.failed()) == (TaskState.FAILURE, True, True)
    app.dlq.purge()
    assert (results[0].status, results[0].ready()) == (TaskState.UNKNOWN, False)
