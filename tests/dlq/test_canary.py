"""Replay by schedule: canaries first, and what becomes of those that fail again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.wait import eventually
from support.worker import run_burst, running_worker

from taskq import TaskQ
from taskq.client.dlq import canary, query
from taskq.client.dlq.periodic import TASK, sweep
from taskq.errors import ConfigError

Bury = Callable[..., str]


def declare(app: TaskQ, **settings: Any) -> list[int]:
    """``shop.pay``, which fails for 0 as it did before; answers the list of what ran."""
    ran: list[int] = []

    @app.task(name="shop.pay", max_retries=0, **settings)
    def pay(amount: int) -> None:
        ran.append(amount)
        if amount == 0:
            raise ValueError("no money")

    return ran


def bury_many(bury: Bury, count: int, amount: int, **more: Any) -> None:
    bury(*(f"{amount}-{n}" for n in range(count)), args=(amount,), **more)


def test_one_then_ten_then_all(app: TaskQ, bury: Bury) -> None:
    ran = declare(app)
    bury_many(bury, 30, 1)
    told = []
    with running_worker(app):
        wait = sweep(app, "run", None, begin=True)
        while wait is not None:
            told.append(app.dlq.runs()[0].total.replayed)
            eventually(lambda: app.dlq.runs()[0].total.ended == told[-1])
            wait = sweep(app, "run", None, begin=False)
        eventually(lambda: app.dlq.runs()[0].total.succeeded == 30)
    assert told == [1, 11]
    assert ran == [1] * 30
    (run,) = app.dlq.runs()
    assert (run.id, run.actor, run.where, run.state) == ("run", "schedule", "by schedule", "done")
    assert app.dlq.count() == 0
    assert sweep(app, "run", None, begin=True) is None


def test_a_kind_that_fails_again_is_stopped_and_others_go_on(make_app: Any, bury: Bury) -> None:
    app = make_app(dlq_max_replays=2)
    ran = declare(app)

    app.tasks["shop.pay"].delay_many([(0,)] * 15)
    run_burst(app)
    assert app.dlq.count() == 15
    ran.clear()
    bury_many(bury, 15, 1, error="another")
    with running_worker(app):
        app.tasks[TASK].delay()
        eventually(lambda: app.dlq.runs() and app.dlq.runs()[0].state == "stopped")
        eventually(lambda: app.dlq.runs()[0].total.ended == 16)
    assert sorted(ran) == [0] + [1] * 15
    (run,) = app.dlq.runs()
    assert (run.total.succeeded, run.total.again) == (15, 1)
    assert sorted(tally.replayed for tally in run.by_fingerprint.values()) == [1, 15]
    assert sorted(letter.replays for letter in app.dlq.list()) == [0] * 14 + [1]
    assert app.dlq.purge() == 15


def test_a_parked_one_stays(make_app: Any, bury: Bury) -> None:
    from taskq.values.message import Meta

    app = make_app(dlq_max_replays=3)
    declare(app)
    bury("often", meta=Meta(replays=3))
    assert sweep(app, "run", None, begin=True) is None
    (run,) = app.dlq.runs()
    assert (run.state, run.total.replayed) == ("done", 0)
    assert app.dlq.purge() == 1


def test_what_is_parked_is_looked_at_once(
    make_app: Any, bury: Bury, redis_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taskq.values.message import Meta

    app = make_app(dlq_max_replays=3)
    declare(app)
    read: list[str] = []
    letters = query.letters

    def counting(*args: Any, **more: Any) -> Any:
        for letter in letters(*args, **more):
            read.append(letter.task_id)
            yield letter

    monkeypatch.setattr(query, "letters", counting)
    monkeypatch.setattr(canary, "STEP", 4)
    names = [f"parked-{n}" for n in range(10)]
    bury(*names, meta=Meta(replays=3))
    steps = 1
    wait = sweep(app, "run", None, begin=True)
    while wait is not None:
        wait = sweep(app, "run", None, begin=False)
        steps += 1
    assert (read, steps) == (names, 3)
    assert sweep(app, "again", None, begin=True) is None
    assert (read, [run.id for run in app.dlq.runs()]) == (names, ["run"])

    bury("new")
    bury("late", meta=Meta(replays=3))
    sweep(app, "third", None, begin=True)
    assert read[10:] == ["new", "late"][: len(read) - 10]
    assert (app.dlq.runs()[0].total.replayed, app.dlq.count()) == (1, 11)

    more = make_app(dlq_max_replays=4, dlq_canary_timeout=0)  # another rule: what was passed counts again
    declare(more)
    sweep(more, "fourth", None, begin=True)
    assert app.dlq.count() == 10
    redis_client.delete(app.keys.queue("default").stream(5))
    assert app.dlq.purge() == 10
    assert not redis_client.exists(app.keys.queue("default").dead_groups)


def test_when_the_latest_that_was_passed_is_gone_there_is_still_nothing_new(make_app: Any, bury: Bury) -> None:
    from taskq.values.message import Meta

    app = make_app(dlq_max_replays=3)
    declare(app)
    bury("older", "newer", meta=Meta(replays=3))
    sweep(app, "run", None, begin=True)
    assert app.dlq.purge(ids=["newer"]) == 1
    assert sweep(app, "again", None, begin=True) is None
    assert [run.id for run in app.dlq.runs()] == ["run"]
    assert app.dlq.purge() == 1


def test_a_canary_that_does_not_end_keeps_its_kind(make_app: Any, bury: Bury, redis_client: Any) -> None:
    app = make_app(dlq_canary_timeout=0)
    declare(app)
    bury_many(bury, 3, 1)
    assert sweep(app, "run", None, begin=True) == canary.POLL
    eventually(lambda: sweep(app, "run", None, begin=False) is None)  # both may fall into one millisecond
    assert (app.dlq.runs()[0].state, app.dlq.count()) == ("undecided", 2)
    redis_client.delete(app.keys.queue("default").stream(5))
    assert app.dlq.purge() == 2


def test_steps_are_bounded_and_two_runs_do_not_overlap(
    app: TaskQ, bury: Bury, redis_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(app)
    monkeypatch.setattr(canary, "STEP", 4)
    for n in range(3):
        bury_many(bury, 3, n + 1, error_type=f"E{n}")
    assert sweep(app, "run", None, begin=True) == 0.0
    assert app.dlq.runs()[0].total.replayed == 2
    assert sweep(app, "again", None, begin=True) is None
    assert sweep(app, "run", None, begin=False) == canary.POLL
    assert [run.total.replayed for run in app.dlq.runs()] == [3]
    redis_client.delete(app.keys.queue("default").stream(5))
    assert app.dlq.purge() == 6


@pytest.mark.parametrize(
    ("settings", "only", "replayed"),
    [
        ({}, None, 1),
        ({"dlq_replay": False}, None, 0),
        ({"dlq_replay": "0 3 * * *"}, None, 0),
        ({"dlq_replay": "0 3 * * *"}, "shop.pay", 1),
        ({"delivery": "at_most_once"}, None, 0),
        ({"delivery": "at_most_once", "dlq_replay": True}, None, 1),
        (None, None, 0),
    ],
    ids=str,
)
def test_a_task_may_say_otherwise(
    app: TaskQ, bury: Bury, redis_client: Any, settings: dict[str, Any] | None, only: str | None, replayed: int
) -> None:
    if settings is not None:
        declare(app, **settings)
    bury("one")
    sweep(app, "run", only, begin=True)
    assert app.dlq.count() == 1 - replayed
    if replayed:
        redis_client.delete(app.keys.queue("default").stream(5))
    else:
        app.dlq.purge()


def test_schedules_of_replays(make_app: Any) -> None:
    app = make_app(dlq_replay_schedule="*/10 * * * *")
    declare(app, dlq_replay="0 3 * * *")
    entries = {name: dict(entry.kwargs) for name, entry in app.periodic_entries.items()}
    assert entries == {TASK: {}, f"{TASK}:shop.pay": {"task": "shop.pay"}}
    for bad in (7, "soon"):
        with pytest.raises(ConfigError):
            app.task(name="x", dlq_replay=bad)(lambda: None)
