"""The outbox: a message is sent if the transaction commits, once, and not if it rolls back."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session
from support.process import Proc
from support.wait import eventually, wait_for_line
from support.worker import run_burst, running_worker

from taskq import BrokerUnavailableError, ConfigError, Context, SerializationError, TaskQ, TaskqError, TaskState
from taskq.contrib import dbapi
from taskq.contrib.sqlalchemy import OutboxRelay, create_tables, once, outbox
from taskq.values.message import decode


@pytest.fixture
def ran(app: TaskQ) -> list[Any]:
    """What the task ``note`` was called with; two more tasks are ``keep`` in a queue of its own and ``fail``."""
    calls: list[Any] = []

    @app.task(name="note")
    def note(x: Any) -> Any:
        calls.append(x)
        return x

    @app.task(name="keep", queue="kept")
    def keep(x: Any) -> Any:
        calls.append(x)
        return x

    return calls


def rows(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT COUNT(*) FROM taskq_outbox")).scalar_one())


def published(client: Any, namespace: str, queue: str = "default") -> list[Any]:
    """The first argument of every message in the streams of a queue."""
    found = []
    for level in range(10):
        for _, fields in client.xrange(f"{namespace}:{{{queue}}}:stream:{level}"):
            found.append(decode(fields[b"m"]).args[0])
    return found


def test_a_commit_sends_it(app: TaskQ, engine: Engine, ran: list[Any]) -> None:
    with Session(engine) as session, session.begin():
        result = outbox.delay(session, app.tasks["note"], 7)
    assert result.status is TaskState.UNKNOWN, "nothing is sent before the relay has run"
    relay = OutboxRelay(engine, app)
    assert relay.backlog().count == 1
    assert relay.run_once() == 1
    assert relay.run_once() == 0
    with running_worker(app):
        assert result.get(timeout=30) == 7
    assert ran == [7]
    assert relay.backlog().oldest_age is None


def test_a_rollback_sends_nothing(app: TaskQ, engine: Engine, ran: list[Any]) -> None:
    with Session(engine) as session:
        outbox.delay(session, app.tasks["note"], 7)
        session.rollback()
    assert OutboxRelay(engine, app).run_once() == 0
    run_burst(app)
    assert ran == []


def test_nothing_is_seen_before_the_commit(app: TaskQ, engine: Engine, ran: list[Any]) -> None:
    relay = OutboxRelay(engine, app)
    with Session(engine) as session:
        outbox.delay(session, app.tasks["note"], 7)
        session.flush()
        assert relay.run_once() == 0
        session.commit()
    assert relay.run_once() == 1
    run_burst(app)
    assert ran == [7]


def test_in_order_also_over_pages(
    app: TaskQ, engine: Engine, ran: list[Any], redis_client: Any, namespace: str
) -> None:
    for start in range(0, 50, 10):
        with Session(engine) as session, session.begin():
            outbox.delay_many(session, app.tasks["note"], [(n,) for n in range(start, start + 10)])
    relay = OutboxRelay(engine, app, page=7)
    moved = []
    while count := relay.run_once():
        moved.append(count)
    assert moved == [7] * 7 + [1]
    assert published(redis_client, namespace) == list(range(50))
    run_burst(app)


def test_options_travel_with_it(app: TaskQ, engine: Engine, ran: list[Any], redis_client: Any, namespace: str) -> None:
    note, keep = app.tasks["note"], app.tasks["keep"]
    with engine.begin() as connection:
        outbox.delay(connection, note.options(priority=9, headers={"a": 1}), "urgent")
        outbox.delay(connection, keep, "elsewhere")
        outbox.delay(connection, keep.options(queue="default"), "here")
        assert outbox.delay_many(connection, note, []) == []
    assert OutboxRelay(engine, app).run_once() == 3
    assert published(redis_client, namespace, "kept") == ["elsewhere"]
    assert published(redis_client, namespace) == ["here", "urgent"]
    assert redis_client.smembers(f"{namespace}:queues") == {b"default", b"kept"}
    with running_worker(app):
        eventually(lambda: sorted(ran) == ["elsewhere", "here", "urgent"])


def test_delayed_messages_wait_from_the_time_of_writing(
    app: TaskQ, engine: Engine, ran: list[Any], redis_client: Any, namespace: str
) -> None:
    note = app.tasks["note"]
    before = int(time.time() * 1000)
    with engine.begin() as connection:
        late = outbox.delay(connection, note.options(countdown=0.6), "late")
        outbox.delay(connection, note.options(eta=datetime.now(UTC) - timedelta(hours=1)), "long due")
        outbox.delay(connection, note.options(countdown=3600), "much later")
    after = int(time.time() * 1000)
    eventually(lambda: time.time() * 1000 > after + 20)  # from here on the time of relaying is another one
    assert OutboxRelay(engine, app).run_once() == 3
    assert published(redis_client, namespace) == ["long due"]
    dues = [due for _, due in redis_client.zrange(f"{namespace}:{{default}}:delayed", 0, -1, withscores=True)]
    assert before + 600 <= dues[0] <= after + 600
    assert before + 3_600_000 <= dues[1] <= after + 3_600_000
    with running_worker(app):
        assert late.get(timeout=30) == "late"
    assert ran == ["long due", "late"]
    redis_client.delete(f"{namespace}:{{default}}:delayed")


def test_a_relay_that_did_not_come_to_delete_publishes_nothing_twice(
    app: TaskQ, engine: Engine, ran: list[Any], redis_client: Any, namespace: str
) -> None:
    class Broken(OutboxRelay):
        def _forget(self, *_: Any) -> None:
            raise ZeroDivisionError

    with engine.begin() as connection:
        outbox.delay_many(connection, app.tasks["note"], [(n,) for n in range(20)])
        outbox.delay(connection, app.tasks["note"].options(countdown=60), "later")
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            Broken(engine, app).run_once()
        assert rows(engine) == 21
    assert OutboxRelay(engine, app).run_once() == 21
    assert rows(engine) == 0
    assert published(redis_client, namespace) == list(range(20))
    assert redis_client.zcard(f"{namespace}:{{default}}:delayed") == 1
    redis_client.delete(f"{namespace}:{{default}}:delayed")
    run_burst(app)


def test_the_users_own_id(app: TaskQ, engine: Engine, ran: list[Any]) -> None:
    note = app.tasks["note"].options(task_id="order-7")
    note.delay("sent")
    with engine.begin() as connection:
        result = outbox.delay(connection, note, "outbox")
    assert result.id == "order-7"
    OutboxRelay(engine, app).run_once()
    run_burst(app)
    assert ran == ["sent"], "one id is one message, however it is sent"


def test_a_wrong_call_is_told_at_once(app: TaskQ, engine: Engine, ran: list[Any]) -> None:
    with engine.begin() as connection:
        with pytest.raises(TypeError):
            outbox.delay(connection, app.tasks["note"], 1, 2)
        with pytest.raises(SerializationError):
            outbox.delay(connection, app.tasks["note"], object())
    assert rows(engine) == 0


def test_once_and_outbox_in_one_transaction(app: TaskQ, engine: Engine, ran: list[Any]) -> None:
    """The message that follows is sent once, however often the task runs."""

    @app.task(bind=True, max_retries=2, retry_backoff=0.01)
    def pay(self: Context) -> None:
        with Session(engine) as session, session.begin():
            if once(session):
                outbox.delay(session, app.tasks["note"], "paid")
        if self.attempt < 3:
            raise ConnectionError("after the commit")

    result = pay.delay()
    with running_worker(app):
        result.get(timeout=30)
        assert OutboxRelay(engine, app).run_once() == 1
        eventually(lambda: ran == ["paid"])


def test_rows_wait_while_redis_is_down(
    app: TaskQ, engine: Engine, ran: list[Any], make_app: Callable[..., TaskQ]
) -> None:
    with engine.begin() as connection:
        result = outbox.delay(connection, app.tasks["note"], 7)
    nowhere = make_app(broker_url="redis://127.0.0.1:1/0", broker_deadline=0.1)
    with pytest.raises(BrokerUnavailableError):
        OutboxRelay(engine, nowhere).run_once()
    assert rows(engine) == 1
    OutboxRelay(engine, app).run_once()
    with running_worker(app):
        assert result.get(timeout=30) == 7


def test_no_trouble_ends_a_relay(app: TaskQ, engine: Engine, ran: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=OutboxRelay(engine, app, poll=0.05).run, args=(stop,))
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE taskq_outbox RENAME TO hidden"))
    thread.start()
    try:
        eventually(lambda: "trying again" in caplog.text)
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE hidden RENAME TO taskq_outbox"))
            result = outbox.delay(connection, app.tasks["note"], 7)
        with running_worker(app):
            assert result.get(timeout=30) == 7
    finally:
        stop.set()
        thread.join(30)
    assert "SELECT" not in caplog.text, "statements and parameters are not for the log"


def test_an_empty_outbox_is_looked_at_less_and_less(
    app: TaskQ, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    relay, stop = OutboxRelay(engine, app, poll=0.2), threading.Event()

    def look() -> int:
        looks.append(time.monotonic())
        if len(looks) == 6:
            stop.set()
        return 0

    monkeypatch.setattr(relay, "run_once", look)
    relay.run(stop)
    gaps = [after - before for before, after in pairwise(looks)]
    assert gaps[0] < 0.1
    assert 0.2 <= gaps[-1] < 0.4


@pytest.mark.parametrize("given", [{"page": 0}, {"page": 1001}, {"poll": -1}])
def test_what_a_relay_cannot_use(app: TaskQ, engine: Engine, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        OutboxRelay(engine, app, **given)


def test_a_missing_table_is_told_at_the_start(app: TaskQ, database_url: str, make_engine: Any) -> None:
    relay = OutboxRelay(make_engine(database_url), app)
    with pytest.raises(TaskqError, match="taskq_outbox"):
        relay.check()
    relay.create_tables()
    relay.check()


def test_plain_connections_write_it_too(app: TaskQ, engine: Engine, database_url: str, ran: list[Any]) -> None:
    note = app.tasks["note"]
    if database_url.startswith("sqlite"):
        plain: Any = sqlite3.connect(database_url.removeprefix("sqlite:///"))
    else:
        plain = psycopg.connect(database_url.replace("+psycopg", ""))
    with closing(plain):
        dbapi.outbox.delay(plain, note, "rolled back")
        plain.rollback()
        dbapi.outbox.delay(plain, note.options(priority=8), 1)
        dbapi.outbox.delay_many(plain, note, [(2,), (3,)])
        plain.commit()
    assert OutboxRelay(engine, app).run_once() == 3
    with running_worker(app):
        eventually(lambda: sorted(ran) == [1, 2, 3])


# --- processes ---------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from sqlalchemy import create_engine
from taskq import TaskQ
from taskq.contrib.sqlalchemy import OutboxRelay

class Killed(OutboxRelay):
    def _forget(self, *_):
        os.kill(os.getpid(), signal.SIGKILL)

Killed(create_engine(os.environ["TASKQ_DATABASE_URL"]), TaskQ("shop"), page=10).run_once()
"""


@pytest.fixture
def environment(redis_url: str, namespace: str, database_url: str) -> dict[str, str]:
    return {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace, "TASKQ_DATABASE_URL": database_url}


def test_a_relay_killed_between_publishing_and_deleting(
    app: TaskQ,
    engine: Engine,
    ran: list[Any],
    spawn: Callable[..., Proc],
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    with engine.begin() as connection:
        outbox.delay_many(connection, app.tasks["note"], [(n,) for n in range(25)])
    for _ in range(2):
        assert spawn("killed.py", env=environment).wait() == -signal.SIGKILL
    # the server notices the dead client's connection, and gives its rows free, a moment later
    relay = OutboxRelay(engine, app)
    eventually(lambda: (relay.run_once(), rows(engine) == 0)[1])
    run_burst(app)
    assert sorted(ran) == list(range(25))


@pytest.mark.slow
def test_two_relays_and_writers_at_the_same_time(
    app: TaskQ, engine: Engine, ran: list[Any], spawn: Callable[..., Proc], environment: dict[str, str]
) -> None:
    """One relay is killed again and again, the other goes on; every message runs once."""
    note = app.tasks["note"]
    steady = spawn("-m", "taskq", "outbox-relay", "--page", "20", "--poll", "0.05", env=environment)
    with running_worker(app):
        for start in range(0, 2000, 250):
            victim = spawn("-m", "taskq", "outbox-relay", "--page", "20", "--poll", "0.05", env=environment)
            for n in range(start, start + 250, 25):
                with engine.begin() as connection:
                    outbox.delay_many(connection, note, [(k,) for k in range(n, n + 25)])
            eventually(lambda start=start: len(ran) > start)  # type: ignore[misc]
            victim.kill()
        eventually(lambda: rows(engine) == 0, 30)
        eventually(lambda: len(ran) >= 2000, 30)
        steady.signal(signal.SIGTERM)
        assert steady.wait() == 0, steady.output()
    run_burst(app)  # whatever was published twice would run now
    assert Counter(ran) == Counter(range(2000))


def test_the_command(
    app: TaskQ, engine: Engine, ran: list[Any], spawn: Callable[..., Proc], environment: dict[str, str]
) -> None:
    with engine.begin() as connection:
        outbox.delay_many(connection, app.tasks["note"], [(n,) for n in range(5)])
    burst = spawn("-m", "taskq", "outbox-relay", "--burst", env=environment)
    assert burst.wait() == 0, burst.output()
    assert rows(engine) == 0
    run_burst(app)
    assert sorted(ran) == list(range(5))


def test_the_command_makes_its_tables(
    database_url: str, spawn: Callable[..., Proc], environment: dict[str, str]
) -> None:
    without = spawn("-m", "taskq", "outbox-relay", "--burst", env=environment)
    assert without.wait() == 1
    wait_for_line(without, "taskq: the outbox cannot be read .--create-tables makes its table.: .*taskq_outbox")
    made = spawn("-m", "taskq", "outbox-relay", "--burst", "--create-tables", env=environment)
    assert made.wait() == 0, made.output()


@pytest.mark.parametrize(
    ("url", "status", "said"),
    [
        ("", 2, "TASKQ_DATABASE_URL"),
        ("secret-word", 2, "is not a URL"),
        ("postgresql+nosuch://u:secret-word@h/d", 2, "URL|driver"),
        ("mysql+pymysql://u:secret-word@h/d", 2, "not installed: pymysql"),
        ("postgresql+psycopg://u:secret-word@127.0.0.1:1/d", 1, "connection"),
    ],
)
def test_a_url_that_cannot_be_used(spawn: Callable[..., Proc], url: str, status: int, said: str) -> None:
    relay = spawn("-m", "taskq", "outbox-relay", env={"TASKQ_DATABASE_URL": url})
    assert relay.wait() == status, relay.output()
    wait_for_line(relay, said)
    assert "secret-word" not in relay.output()
    assert "Traceback" not in relay.output()


def test_the_command_without_redis(engine: Engine, spawn: Callable[..., Proc], environment: dict[str, str]) -> None:
    environment |= {"TASKQ_BROKER_URL": "redis://127.0.0.1:1/0", "TASKQ_BROKER_DEADLINE": "0.2"}
    relay = spawn("-m", "taskq", "outbox-relay", env=environment)
    assert relay.wait() == 69, relay.output()


def test_on_sqlite_writers_are_not_locked_out_while_redis_hangs(
    tmp_path: Path, make_app: Callable[..., TaskQ], make_engine: Any
) -> None:
    engine = make_engine(f"sqlite:///{tmp_path}/shop.db")
    create_tables(engine)
    app = make_app()

    @app.task
    def note() -> None: ...

    written: list[int] = []

    class Slow(OutboxRelay):
        def _publish(self, rows: Any) -> None:
            with closing(sqlite3.connect(tmp_path / "shop.db", timeout=0)) as other, other:
                written.append(other.execute("CREATE TABLE another (x)").rowcount)

    with engine.begin() as connection:
        outbox.delay(connection, note)
    assert Slow(engine, app).run_once() == 1
    assert written
