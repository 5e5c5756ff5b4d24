"""Events in the outbox: published if the transaction commits, once, in order, and not if it rolls back."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from support.process import Proc
from support.wait import eventually
from support.worker import run_burst

from taskq import ConfigError, Event, SerializationError, TaskQ, Topic, UnknownTopicError
from taskq.contrib import dbapi
from taskq.contrib.sql import relay as relaying
from taskq.contrib.sqlalchemy import OutboxRelay, create_tables, once, outbox


@pytest.fixture
def orders(app: TaskQ) -> Topic:
    return app.topic("orders", max_events=1_000_000)


@pytest.fixture
def got(app: TaskQ, orders: Topic) -> list[Event]:
    """What group ``stock`` of the topic is given, in the order of each key."""
    events: list[Event] = []
    app.subscriber("orders", group="stock", ordered=True)(events.append)
    return events


def rows(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT COUNT(*) FROM taskq_outbox")).scalar_one())


def payloads(app: TaskQ) -> list[Any]:
    """What is in the topic."""
    return [event.payload for page in app.events.pages("orders") for event in page]


def empty(relay: OutboxRelay) -> None:
    while relay.run_once():
        pass


@contextmanager
def plain_connection(database_url: str, **options: Any) -> Iterator[Any]:
    if database_url.startswith("sqlite"):
        made: Any = sqlite3.connect(database_url.removeprefix("sqlite:///"))
        if options.get("autocommit"):
            made.isolation_level = None
    else:
        made = psycopg.connect(database_url.replace("+psycopg", ""), **options)
    with closing(made):
        yield made


def test_a_commit_publishes_it(app: TaskQ, engine: Engine, orders: Topic, got: list[Event]) -> None:
    with Session(engine) as session, session.begin():
        outbox.publish(session, orders, {"id": 7}, key="customer-7")
        assert outbox.publish_many(session, orders, [8, 9], key=lambda payload: f"customer-{payload}") == 2
        outbox.publish(session, orders, None)
    assert payloads(app) == [], "nothing is published before the relay has run"
    relay = OutboxRelay(engine, app)
    assert relay.backlog().count == 4
    assert relay.run_once() == 4
    assert relay.run_once() == 0
    run_burst(app)
    assert [(event.payload, event.key, event.ordinal) for event in sorted(got, key=lambda event: event.ordinal)] == [
        ({"id": 7}, "customer-7", 1),
        (8, "customer-8", 2),
        (9, "customer-9", 3),
        (None, None, 4),
    ]


def test_a_rollback_publishes_nothing(app: TaskQ, engine: Engine, orders: Topic, database_url: str) -> None:
    with Session(engine) as session:
        outbox.publish(session, orders, "session")
        session.rollback()
    with plain_connection(database_url) as plain:
        dbapi.outbox.publish(plain, orders, "plain")
        plain.rollback()
    assert OutboxRelay(engine, app).run_once() == 0
    assert payloads(app) == []


def test_what_cannot_be_published_is_told_before_anything_is_written(
    engine: Engine, orders: Topic, database_url: str
) -> None:
    given: list[tuple[type[Exception], tuple[Any, Any], dict[str, Any]]] = [
        (UnknownTopicError, ("orders", 1), {}),
        (UnknownTopicError, (None, 1), {}),
        (SerializationError, (orders, object()), {}),
        (ConfigError, (orders, 1), {"key": ""}),
        (ConfigError, (orders, 1), {"key": 7}),
        (ConfigError, (orders, 1), {"key": "x" * 201}),
    ]
    many: Any = outbox.publish_many
    with engine.begin() as connection, plain_connection(database_url) as plain:
        for error, arguments, options in given:
            with pytest.raises(error):
                outbox.publish(connection, *arguments, **options)
            with pytest.raises(error):
                dbapi.outbox.publish(plain, *arguments, **options)
        with pytest.raises(SerializationError):
            outbox.publish_many(connection, orders, [1, 2, object()])
        with pytest.raises(ConfigError):
            outbox.publish_many(connection, orders, [1, ""], key=str)
        with pytest.raises(ConfigError, match="payloads must be a list"):
            many(connection, orders, "text")
        with pytest.raises(ConfigError, match="must be a function"):
            many(connection, orders, [1], key="customer-7")
        assert outbox.publish_many(connection, orders, []) == 0
    assert rows(engine) == 0


def test_a_connection_in_autocommit_mode_is_refused(
    app: TaskQ, engine: Engine, orders: Topic, database_url: str
) -> None:
    """Its row would be committed apart from what it belongs to."""

    @app.task(name="note")
    def note() -> None: ...

    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        with pytest.raises(ConfigError, match="the outbox needs a transaction"):
            outbox.publish(connection, orders, 1)
        with pytest.raises(ConfigError, match="the outbox needs a transaction"):
            outbox.delay_many(connection, note, [()])
    with plain_connection(database_url, autocommit=True) as plain:
        with pytest.raises(ConfigError, match="the outbox needs a transaction"):
            dbapi.outbox.publish(plain, orders, 1)
        with pytest.raises(ConfigError, match="the outbox needs a transaction"):
            dbapi.outbox.delay(plain, note)
        plain.execute("BEGIN")
        dbapi.outbox.publish(plain, orders, 2)
        plain.execute("COMMIT")
    assert rows(engine) == 1


def test_what_is_no_task_or_no_connection(app: TaskQ, engine: Engine, orders: Topic, database_url: str) -> None:
    """A statement on an async connection would be a coroutine that nobody awaits, and no row."""

    @app.task(name="note")
    def note(x: int) -> None: ...

    send: Any = outbox.delay
    plainly: Any = dbapi.outbox
    with engine.begin() as connection, plain_connection(database_url) as plain:
        for wrong in ("note", note.delay, None):
            with pytest.raises(ConfigError, match=r"sends a task or task\.options"):
                send(connection, wrong, 1)
            with pytest.raises(ConfigError, match=r"sends a task or task\.options"):
                plainly.delay(plain, wrong, 1)
        with pytest.raises(ConfigError, match="each call must be a list or tuple"):
            outbox.delay_many(connection, note, ["1"])
        for no_session in (engine, None, plain):
            with pytest.raises(ConfigError, match="give the Session"):
                send(no_session, note, 1)
        for no_connection in (connection, engine, None):
            with pytest.raises(ConfigError, match="give a connection of a DB-API driver"):
                plainly.publish(no_connection, orders, 1)
        with pytest.raises(ConfigError, match="async connection"):
            plainly.publish(psycopg.AsyncConnection.__new__(psycopg.AsyncConnection), orders, 1)
    assert rows(engine) == 0


def test_plain_connections_write_it_too(app: TaskQ, engine: Engine, orders: Topic, database_url: str) -> None:
    with plain_connection(database_url) as plain:
        dbapi.outbox.publish(plain, orders, 1, key="k")
        assert dbapi.outbox.publish_many(plain, orders, [2, 3]) == 2
        plain.commit()
    assert OutboxRelay(engine, app).run_once() == 3
    assert payloads(app) == [1, 2, 3]


def test_from_an_async_session(app: TaskQ, postgres_url: str, make_engine: Any, orders: Topic) -> None:
    engine = make_engine(postgres_url)
    create_tables(engine)

    @app.task(name="note")
    def note(x: int) -> None: ...

    async def place(order: int) -> None:
        database = create_async_engine(postgres_url)
        async with AsyncSession(database) as session, session.begin():
            if await session.run_sync(once, task_id="order-7"):
                await session.run_sync(outbox.publish, orders, order, key="customer-7")
                await session.run_sync(outbox.delay, note, order)
        await database.dispose()

    asyncio.run(place(7))
    asyncio.run(place(8))
    assert OutboxRelay(engine, app).run_once() == 2
    assert payloads(app) == [7]
    run_burst(app)


def test_the_relay_needs_no_code_of_the_app(
    make_app: Callable[..., TaskQ], engine: Engine, redis_client: Any, namespace: str
) -> None:
    """The limits of the topic come with the row; who looks at topics sees this one."""
    with engine.begin() as connection:
        outbox.publish(connection, Topic("orders", "2h", 5_000, 70_000_000), 1)
    app = make_app()
    OutboxRelay(engine, app).run_once()
    (topic,) = app.events.topics()
    assert (topic.topic, topic.total, topic.retention_ms) == ("orders", 1, 7_200_000)
    assert (topic.max_events, topic.max_bytes) == (5_000, 70_000_000)


def test_messages_and_events_in_one_outbox(app: TaskQ, engine: Engine, orders: Topic) -> None:
    ran: list[int] = []

    @app.task(name="note")
    def note(x: int) -> None:
        ran.append(x)

    for n in range(20):
        with engine.begin() as connection:
            outbox.delay(connection, note, n)
            outbox.publish(connection, orders, n, key="one")
    empty(OutboxRelay(engine, app, page=7))
    assert payloads(app) == list(range(20))
    run_burst(app)
    assert sorted(ran) == list(range(20))


@pytest.mark.parametrize("isolation", [None, "AUTOCOMMIT"])
def test_in_order_with_several_relays(app: TaskQ, engine: Engine, orders: Topic, isolation: str | None) -> None:
    """While one relay has a page of events in hand, another neither overtakes it nor waits for it."""

    @app.task(name="note")
    def note() -> None: ...

    class Slow(OutboxRelay):
        def _publish(self, rows: Any) -> None:
            in_hand.set()
            assert go_on.wait(30)
            super()._publish(rows)

    with Session(engine) as session, session.begin():
        outbox.publish_many(session, orders, range(20), key=lambda _: "one")
        outbox.delay(session, note)
    if isolation is not None:
        engine = engine.execution_options(isolation_level=isolation)
    in_hand, go_on = threading.Event(), threading.Event()
    moved: list[int] = []
    slow = threading.Thread(target=lambda: moved.append(Slow(engine, app, page=5).run_once()))
    slow.start()
    try:
        assert in_hand.wait(30)
        other = OutboxRelay(engine, app, page=5)
        found = other.run_once()
        if engine.dialect.name == "postgresql":
            assert found == 1, "the message, and no event"
            assert payloads(app) == []
        else:
            assert payloads(app) == list(range(5)), "the same page; one of the two takes effect"
    finally:
        go_on.set()
        slow.join(30)
    assert moved == [5]
    empty(other)
    assert payloads(app) == list(range(20))
    run_burst(app)


def test_a_relay_that_was_stopped_is_not_waited_for(
    app: TaskQ, postgres_url: str, make_engine: Any, orders: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its page goes to another, and what it publishes late has been published before."""
    monkeypatch.setattr(relaying, "LONGEST_HOLD_MS", 500)
    engine = make_engine(postgres_url)
    create_tables(engine)
    with Session(engine) as session, session.begin():
        outbox.publish_many(session, orders, range(10), key=lambda _: "one")
    in_hand, go_on = threading.Event(), threading.Event()
    errors: list[DBAPIError] = []

    class Stopped(OutboxRelay):
        def _publish(self, rows: Any) -> None:
            in_hand.set()
            assert go_on.wait(30)
            super()._publish(rows)

    def late() -> None:
        try:
            Stopped(engine, app, page=5).run_once()
        except DBAPIError as error:
            errors.append(error)

    stopped = threading.Thread(target=late)
    stopped.start()
    try:
        assert in_hand.wait(30)
        other = OutboxRelay(engine, app, page=5)
        eventually(lambda: (other.run_once(), rows(engine) == 0)[1], 30)
    finally:
        go_on.set()
        stopped.join(30)
    assert len(errors) == 1
    assert payloads(app) == list(range(10)), "each once, in order"


def test_a_row_that_is_no_event_holds_nothing_up(app: TaskQ, engine: Engine, orders: Topic, got: list[Event]) -> None:
    """It becomes a dead letter of the group, with its bytes."""
    with engine.begin() as connection:
        outbox.publish(connection, orders, 1)
        connection.execute(text("UPDATE taskq_outbox SET data = :data"), {"data": b"\xc1 no event"})
        outbox.publish(connection, orders, 2)
    assert OutboxRelay(engine, app).run_once() == 2
    run_burst(app)
    assert [event.payload for event in got] == [2]
    (letter,) = app.dlq.list("orders/stock")
    assert b"\xc1 no event" in letter.data
    app.dlq.purge(queue="orders/stock")


KILLED = """
import os, signal
from sqlalchemy import create_engine
from taskq import TaskQ
from taskq.contrib.sqlalchemy import OutboxRelay

class Killed(OutboxRelay):
    def _forget(self, *_):
        os.kill(os.getpid(), signal.SIGKILL)

Killed(create_engine(os.environ["TASKQ_DATABASE_URL"]), TaskQ("shop"), page=10).run_once()
"""


def test_a_relay_killed_between_publishing_and_deleting(
    app: TaskQ,
    engine: Engine,
    orders: Topic,
    spawn: Callable[..., Proc],
    tmp_path: Path,
    redis_url: str,
    namespace: str,
    database_url: str,
) -> None:
    environment = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace, "TASKQ_DATABASE_URL": database_url}
    (tmp_path / "killed.py").write_text(KILLED)
    with engine.begin() as connection:
        outbox.publish_many(connection, orders, range(25), key=lambda _: "one")
    assert spawn("killed.py", env=environment).wait() == -signal.SIGKILL
    assert payloads(app) == list(range(10))
    assert rows(engine) == 25
    # the server notices the dead client's connection, and gives its rows free, a moment later
    relay = OutboxRelay(engine, app)
    eventually(lambda: (relay.run_once(), rows(engine) == 0)[1], 20)
    assert payloads(app) == list(range(25)), "each once, in order"
