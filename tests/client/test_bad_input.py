"""Wrong types, empty, negative, huge and unprintable values, given to everything public.

Each call of the table below is valid. It is made again with every argument in turn replaced by every value of
``WRONG``: it must return, or raise an error of taskq's that leaves Redis as it was.
"""

# ruff: noqa: C408, E501 - a table, in which dict(...) reads like the call it stands for

from __future__ import annotations

import asyncio
import inspect
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from support.keys import delete_keys

import taskq
from taskq import Batch, Config, ConfigError, PeriodicEntry, TaskQ, TaskqError, Topic
from taskq.client.options import CallSettings, TaskSettings
from taskq.errors import ArgumentsError
from taskq.values import checks
from taskq.values.transaction import Transaction

NOW = datetime.now(UTC)
WRONG: tuple[Any, ...] = (
    None, True, 0, -1, 10**400, 10**5000, 2**63, 1.5, 1e300, math.nan, -math.inf,
    "", " ", "x" * 5000, "a:b{c}", "a/b", "\0", "\ud800", "-", "0-0", "-1", "9" * 5000, "9" * 400 + "d", "9" * 5000 + "-0",
    b"\xff", (), [[]], [1], {1: 2}, {"a": {1}}, object(), str, ValueError("x"), print,
    datetime(2026, 1, 1), datetime.max.replace(tzinfo=timezone(timedelta(hours=-9))), timedelta(days=-1), timedelta.max,
)  # fmt: skip


def body(*args: Any, **kwargs: Any) -> None:
    """A task's function."""


async def abody(*args: Any, **kwargs: Any) -> None:
    """An async task's."""


class Scene:
    """An app that has something of everything."""

    def __init__(self, app: TaskQ, path: Path) -> None:
        self.app, self.path, self.number = app, path, 0
        self.task = app.task(name="shop.add")(body)
        app.topic("orders", retention="1d")
        app.batch_job(taskq.every(60), source="orders", name="shop.settle")(body)
        app.publish("orders", {"id": 1})
        app.schedules.add("nightly", taskq.every(3600), "shop.add")
        app.events.reader("orders", group="audit").commit()
        self.ended = self.task.options(task_id="known", queue="spare").delay(1)
        app.purge("spare")

    def fresh(self) -> str:
        self.number += 1
        return f"n{self.number}"


UNSET = object()
"""An argument that the valid call leaves out."""
OPTIONS = dict.fromkeys(CallSettings.__annotations__, UNSET)
Made = Callable[[Scene], Callable[..., Any]]
CALLS: dict[str, tuple[Made, dict[str, Any]]] = {
    "TaskQ": (lambda s: TaskQ, dict(name="shop", broker_url="redis://localhost", include=())),
    "Config.build": (
        lambda s: lambda **given: Config.build(given, {}), dict.fromkeys(Config.__dataclass_fields__, UNSET)
    ),
    "Batch": (lambda s: Batch, dict(size=1, wait=1, by=None)),
    "Topic": (lambda s: Topic, dict(name="a", retention=None, max_events=None, max_bytes=None)),
    "PeriodicEntry": (
        lambda s: PeriodicEntry,
        dict(name="a", task="b", schedule=taskq.every(1), args=(), kwargs={}, options={}, catch_up="last",
             max_catch_up=1, overlap="allow", max_held=1, jitter=0, start=None, end=None, source="code"),
    ),
    "Retry": (lambda s: taskq.Retry, dict(reason="r", countdown=None, eta=None, max_retries=None)),
    "Reject": (lambda s: taskq.Reject, dict(reason="r")),
    "every": (lambda s: taskq.every, dict(interval=1)),
    "at": (lambda s: taskq.at, dict(when=NOW)),
    "cron": (lambda s: taskq.cron, dict(expression="0 2 * * *", tz="UTC")),
    "crontab": (lambda s: taskq.crontab, dict.fromkeys(inspect.signature(taskq.crontab).parameters, "*")),
    "every().next_after": (lambda s: taskq.every(1).next_after, dict(after=NOW)),
    "at().next_after": (lambda s: taskq.at(NOW).next_after, dict(after=NOW)),
    "cron().next_after": (lambda s: taskq.cron("* * * * *").next_after, dict(after=NOW)),
    "@app.task": (
        lambda s: lambda **given: s.app.task(**given)(body),
        dict.fromkeys([*TaskSettings.__annotations__, "batch", "bind"], UNSET) | {"name": "n"},
    ),
    "app.task": (lambda s: s.app.task, {"function": body}),
    "app.register": (lambda s: s.app.register, dict(function=body, name="r", bind=False, settings={}, group_queue=None)),
    "app.periodic": (
        lambda s: lambda **given: s.app.periodic(**{"name": s.fresh()} | given)(s.task),
        dict(schedule=taskq.every(1), args=(), kwargs={}, name="p", catch_up="last", max_catch_up=1, overlap="allow",
             max_held=1, jitter=0, start=None, end=None, queue="q"),
    ),
    "app.periodic()": (
        lambda s: lambda function: s.app.periodic(taskq.every(1), name=s.fresh())(function), dict(function=body)
    ),
    "app.batch_job": (
        lambda s: lambda **given: s.app.batch_job(**{"name": s.fresh()} | given)(body),
        dict(schedule=taskq.every(1), source="orders", window="since_last", name="j", page=1, catch_up=None, queue="q"),
    ),
    "app.batch_job()": (
        lambda s: lambda function: s.app.batch_job(taskq.every(1), source="orders", name=s.fresh())(function),
        dict(function=body),
    ),
    "app.add_periodic": (lambda s: s.app.add_periodic, dict(entry=PeriodicEntry("e", "t", taskq.every(1)))),
    "app.reconfigure": (lambda s: s.app.reconfigure, dict(task_default_queue="default")),
    "app.send_task": (
        lambda s: s.app.send_task,
        OPTIONS | dict(name="shop.add", args=(), kwargs={}),
    ),
    "app.send_task(unknown)": (
        lambda s: s.app.send_task,
        OPTIONS | dict(name="other.task", args=(), kwargs={}),
    ),
    "app.result": (lambda s: lambda **given: s.app.result(**given).status, dict(task_id="known", queue="default")),
    "app.get_task": (lambda s: s.app.get_task, dict(name="shop.add")),
    "app.pause": (lambda s: s.app.pause, dict(queue="default")),
    "app.resume": (lambda s: s.app.resume, dict(queue="default")),
    "app.purge": (lambda s: s.app.purge, dict(queue="default", delayed=False)),
    "app.topic": (lambda s: lambda **g: s.app.topic(**{"name": s.fresh()} | g),
                  dict(name="t", retention=None, max_events=None, max_bytes=None)),
    "app.publish": (lambda s: s.app.publish, dict(topic="orders", payload=1, key=None)),
    "app.publish_many": (lambda s: s.app.publish_many, dict(topic="orders", payloads=[1], key=None)),
    "app.subscriber": (
        lambda s: lambda **given: s.app.subscriber(**{"group": s.fresh()} | given)(body),
        dict(topic="orders", group="g", start="earliest", ordered=False, name="s", bind=False, delivery="at_least_once"),
    ),
    "app.subscriber()": (
        lambda s: lambda function: s.app.subscriber("orders", group=s.fresh())(function), dict(function=body)
    ),
    "app.broadcast": (lambda s: s.app.broadcast, dict(name="b", payload=1)),
    "app.on_broadcast": (lambda s: lambda name, handler: s.app.on_broadcast(name)(handler), dict(name="b", handler=body)),
    "app.queue": (lambda s: s.app.queue, dict(name="jobs", prefetch=0)),
    "fifo.put": (lambda s: s.app.queue("jobs").put, dict(value=1)),
    "fifo.put_many": (lambda s: s.app.queue("jobs").put_many, dict(values=[1])),
    "app.hooks.listen": (lambda s: s.app.hooks.listen, dict(name="settled", listener=body)),
    "task.options": (
        lambda s: lambda **given: s.task.options(**given).delay(1), OPTIONS
    ),
    "task.delay": (lambda s: s.task.delay, dict(value=1)),
    "task.apply_async": (
        lambda s: s.task.apply_async,
        OPTIONS | dict(args=(), kwargs={}),
    ),
    "task.delay_many": (lambda s: s.task.delay_many, dict(calls=[(1,)])),
    "task.delay_all": (lambda s: s.task.delay_all, dict(calls=[(1,)], progress=None)),
    "task.check_call": (lambda s: s.task.check_call, dict(args=(), kwargs={})),
    "result.get": (lambda s: s.ended.get, dict(timeout=1, propagate=True)),
    "app.events.groups": (lambda s: s.app.events.groups, dict(topic="orders")),
    "app.events.end": (lambda s: s.app.events.end, dict(topic="orders")),
    "app.events.pages": (
        lambda s: lambda **given: list(s.app.events.pages(**given)),
        dict(topic="orders", after="0-0", start=None, end=None, size=10),
    ),
    "app.events.last": (lambda s: s.app.events.last, dict(topic="orders", count=1, end=None)),
    "app.events.seek": (lambda s: s.app.events.seek, dict(topic="orders", group="audit", to="earliest")),
    "app.events.replay": (
        lambda s: s.app.events.replay, dict(topic="orders", group="audit", start="earliest", end=None)
    ),
    "app.events.reader": (
        lambda s: lambda **given: list(s.app.events.reader(**given)), dict(topic="orders", group="audit", start="latest")
    ),
    "app.schedules.add": (
        lambda s: lambda **given: s.app.schedules.add(**{"name": s.fresh()} | given),
        dict(name="a", schedule=taskq.every(1), task="shop.add", args=(), kwargs={}, catch_up="last", max_catch_up=1,
             overlap="allow", max_held=1, jitter=0, start=None, end=None, queue="q", headers={}),
    ),
    "app.schedules.remove": (lambda s: s.app.schedules.remove, dict(name="gone")),
    "app.schedules.pause": (lambda s: s.app.schedules.pause, dict(name="nightly")),
    "app.schedules.resume": (lambda s: s.app.schedules.resume, dict(name="nightly")),
    "app.schedules.run_now": (lambda s: s.app.schedules.run_now, dict(name="nightly")),
    "app.schedules.get": (lambda s: s.app.schedules.get, dict(name="nightly")),
    "app.schedules.next": (lambda s: s.app.schedules.next, dict(name="nightly", count=1, after=None)),
    "app.schedules.history": (lambda s: s.app.schedules.history, dict(name="nightly", limit=1)),
    "app.schedules.backfill": (
        lambda s: s.app.schedules.backfill,
        dict(name="nightly", start=NOW - timedelta(hours=3), end=NOW, limit=10),
    ),
    "app.jobs.progress": (lambda s: s.app.jobs.progress, dict(name="shop.settle")),
    "app.jobs.run": (lambda s: s.app.jobs.run, dict(name="shop.settle", fire_time=None)),
    "app.dlq.count": (lambda s: s.app.dlq.count, dict(queue=None)),
    "app.dlq.list": (
        lambda s: s.app.dlq.list,
        dict(queue=None, limit=1, task=None, error=None, since=None, until=None, text=None, fingerprint=None),
    ),
    "app.dlq.page": (lambda s: s.app.dlq.page, dict(queue=None, limit=1, after=None, newest_first=False, scan=1)),
    "app.dlq.groups": (lambda s: s.app.dlq.groups, dict(queue=None)),
    "app.dlq.get": (lambda s: s.app.dlq.get, dict(task_or_entry_id="known", queue=None)),
    "app.dlq.runs": (lambda s: s.app.dlq.runs, dict(queue=None, limit=1)),
    "app.dlq.replay": (
        lambda s: s.app.dlq.replay,
        dict(ids=None, queue=None, to=None, rate=None, max_replays=None, skip_missing=False, dry_run=False, actor=None,
             progress=None, task=None, since=None),
    ),
    "app.dlq.edit": (
        lambda s: s.app.dlq.edit, dict(task_or_entry_id="known", args=None, kwargs=None, queue=None, to=None, actor=None)
    ),
    "app.dlq.purge": (
        lambda s: s.app.dlq.purge,
        dict(ids=None, queue=None, skip_missing=False, dry_run=False, actor=None, progress=None, text=None),
    ),
    "app.dlq.export_to": (
        lambda s: lambda **given: s.app.dlq.export_to(s.path / "dead.jsonl", **given), dict(queue=None, until=None)
    ),
    "Transaction.execute": (lambda s: Transaction().execute, dict(command="SET", value="x")),
    "app.audit.read": (lambda s: s.app.audit.read, dict(limit=1, before=None)),
    "app.dlq.import_from": (
        lambda s: lambda **given: s.app.dlq.import_from(s.path / "dead.jsonl", **given), dict(queue=None, actor=None)
    ),
}  # fmt: skip
ASYNC = (
    "app.apublish", "app.apublish_many", "app.abroadcast", "app.apause", "app.aresume", "app.apurge",
    "task.aapply_async", "task.adelay_many", "result.aget", "app.dlq.apage", "app.dlq.agroups", "app.dlq.aget",
    "app.dlq.aruns", "app.dlq.areplay", "app.dlq.aedit", "app.dlq.apurge",
)  # fmt: skip
"""They take what their relatives without the "a" take."""
DOUBLED = re.compile(r"(?<!\.)\.\.(?!\.)|\S :|;;|not not")
POSITIONAL = {"app.task", "task.delay", "Transaction.execute"}


def try_all(call: Callable[..., Any], what: str, valid: dict[str, Any], client: Any) -> list[str]:
    """Make the call with each value in each place; what went wrong."""

    def writes() -> int:
        return int(client.info("persistence")["rdb_changes_since_last_save"])

    wrong, before = [], writes()
    for name in valid:
        for value in WRONG:
            given = {key: each for key, each in {**valid, name: value}.items() if each is not UNSET}
            told = f"{what}({name}={checks.shown(value):.60})"
            try:
                call(*given.values()) if what in POSITIONAL else call(**given)
            except TaskqError as error:
                if writes() != before:
                    wrong.append(f"{told} was refused, and wrote something")
                if DOUBLED.search(str(error)):
                    wrong.append(f"{told} was refused in clumsy words: {error}")
            except Exception as error:
                wrong.append(f"{told} raised {error!r:.200}")
            before = writes()
    return wrong


@pytest.mark.parametrize("what", CALLS)
def test_what_cannot_be_used_is_refused_by_a_typed_error_and_nothing_is_written(
    what: str, app: TaskQ, namespace: str, redis_client: Any, tmp_path: Path
) -> None:
    (tmp_path / "dead.jsonl").write_text("")
    make, valid = CALLS[what]
    assert try_all(make(Scene(app, tmp_path)), what, valid, redis_client) == []
    delete_keys(redis_client, namespace)


@pytest.mark.parametrize("what", ASYNC)
def test_so_is_what_async_code_gives(what: str, app: TaskQ, namespace: str, redis_client: Any, tmp_path: Path) -> None:
    scene = Scene(app, tmp_path)
    where, _, method = what.rpartition(".")
    owner = {"app": app, "task": scene.task, "result": scene.ended, "app.dlq": app.dlq}[where]
    valid = CALLS[f"{where}.{method.removeprefix('a')}"][1]
    with asyncio.Runner() as loop:
        assert try_all(lambda **given: loop.run(getattr(owner, method)(**given)), what, valid, redis_client) == []
        loop.run(app.aclose())
    delete_keys(redis_client, namespace)


@pytest.mark.parametrize(
    "call",
    {
        "TaskQ('')": lambda app: TaskQ(""),
        "include=text": lambda app: TaskQ("shop", include="shop.tasks"),
        "name=5": lambda app: app.task(name=5)(body),
        "name=''": lambda app: app.task(name="")(body),
        "bind='no'": lambda app: app.task(bind="no")(body),
        "ignore_result='no'": lambda app: app.task(ignore_result="no")(body),
        "ordered='x'": lambda app: app.subscriber("orders", group="g", ordered="x"),
        "wait=1e300": lambda app: Batch(wait=1e300),
        "wait=2 days": lambda app: Batch(wait="2d"),
        "countdown=1e300": lambda app: app.send_task("shop.add", countdown=1e300),
        "retention=1e300": lambda app: app.topic("t", retention=1e300),
        "max_events=2**63": lambda app: app.topic("t", max_events=2**63),
        "args=5": lambda app: app.schedules.add("s", taskq.every(1), "shop.add", args=5),
        "args=text": lambda app: app.send_task("shop.add", args="ab"),
        "publish_many(5)": lambda app: app.publish_many("orders", 5),
        "publish_many(text)": lambda app: app.publish_many("orders", "ab"),
        "delay_many([1])": lambda app: app.task(body).delay_many([1]),
        "delay_many([text])": lambda app: app.task(body).delay_many(["ab"]),
        "dlq.get(None)": lambda app: app.dlq.get(None),
        "dlq.replay(text)": lambda app: app.dlq.replay("abc"),
        "dlq.replay(rate=1e-300)": lambda app: app.dlq.replay(rate=1e-300),
        "events.last(-1)": lambda app: app.events.last("orders", -1),
        "worker_concurrency=10**12": lambda app: TaskQ("shop", worker_concurrency=10**12),
    }.items(),
    ids=lambda call: call[0],
)
def test_what_would_be_taken_for_something_else_is_refused(
    call: tuple[str, Callable[[TaskQ], object]], app: TaskQ
) -> None:
    app.topic("orders")
    with pytest.raises(ConfigError):
        call[1](app)


def test_arguments_that_do_not_fit_are_a_config_error_and_a_type_error(app: TaskQ) -> None:
    @app.task(name="shop.add")
    def add(x: int, y: int) -> int:
        return x + y

    for call in (lambda: add.delay(1), lambda: add.delay_many([(1,)]), lambda: add.check_call((1,), {})):  # type: ignore[call-arg]
        with pytest.raises(ArgumentsError, match=r"shop.add does not take these arguments: .*'y'") as caught:
            call()
        assert isinstance(caught.value, TypeError)


def test_the_error_of_a_wrong_broker_url_does_not_show_it() -> None:
    with pytest.raises(ConfigError, match="broker_url must be text, not bytes") as caught:
        TaskQ("shop", b"redis://:hunter2@localhost")  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)
