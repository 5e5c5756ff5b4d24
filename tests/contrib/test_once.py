"""``once``: a step of a task is committed once, however often the task runs."""

from __future__ import annotations

import re
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from support.process import ROOT, Proc
from support.wait import eventually
from support.worker import running_worker

from taskq import ConfigError, Context, TaskQ, TaskqError
from taskq.contrib import dbapi
from taskq.contrib.sql import statements
from taskq.contrib.sqlalchemy import create_tables, once, purge_processed

INSERT = "INSERT INTO effect (name, value) VALUES ('paid', 1)"


def effects(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT COUNT(*) FROM effect")).scalar_one())


def marks(engine: Engine) -> list[tuple[str, str]]:
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT task_id, step FROM taskq_processed_message ORDER BY task_id, step"))
        return [(row[0], row[1]) for row in rows]


def test_a_message_that_runs_again_has_its_effect_once(app: TaskQ, engine: Engine) -> None:
    answers: list[bool] = []

    @app.task(bind=True, max_retries=2, retry_backoff=0.01)
    def pay(self: Context) -> None:
        with Session(engine) as session, session.begin():
            first = once(session)
            answers.append(bool(first))
            if first:
                session.execute(text(INSERT))
        if self.attempt < 3:
            raise ConnectionError("after the commit")

    result = pay.delay()
    with running_worker(app):
        result.get(timeout=30)
    assert answers == [True, False, False]
    assert effects(engine) == 1
    assert marks(engine) == [(result.id, "")]


def test_what_was_rolled_back_is_done_again(app: TaskQ, engine: Engine) -> None:
    @app.task(bind=True, max_retries=1, retry_backoff=0.01)
    def pay(self: Context) -> None:
        with Session(engine) as session, session.begin():
            if once(session):
                session.execute(text(INSERT))
            if self.attempt == 1:
                raise ConnectionError("before the commit")

    result = pay.delay()
    with running_worker(app):
        result.get(timeout=30)
    assert effects(engine) == 1


def test_steps_are_done_apart(app: TaskQ, engine: Engine) -> None:
    @app.task(bind=True, max_retries=1, retry_backoff=0.01)
    def pay(self: Context) -> None:
        for step in ("debit", "credit"):
            with engine.begin() as connection:
                if once(connection, step):
                    connection.execute(text(INSERT))
            if self.attempt == 1:
                raise ConnectionError("between the steps")

    result = pay.delay()
    with running_worker(app):
        result.get(timeout=30)
    assert effects(engine) == 2
    assert marks(engine) == [(result.id, "credit"), (result.id, "debit")]


def test_two_messages_are_two(app: TaskQ, engine: Engine) -> None:
    @app.task
    def pay() -> None:
        with engine.begin() as connection:
            if once(connection):
                connection.execute(text(INSERT))

    results = [pay.delay(), pay.delay()]
    with running_worker(app):
        for result in results:
            result.get(timeout=30)
    assert effects(engine) == 2


def by_session(engine: Engine) -> Any:
    return Session(engine)


def by_scoped_session(engine: Engine) -> Any:
    return scoped_session(sessionmaker(engine))


def by_connection(engine: Engine) -> Any:
    return engine.connect()


@pytest.mark.parametrize("opened", [by_session, by_scoped_session, by_connection])
def test_every_kind_of_session(engine: Engine, opened: Callable[[Engine], Any]) -> None:
    for expected in (True, False):
        session = opened(engine)
        assert bool(once(session, task_id="a")) is expected
        session.commit()
        session.close()


def test_as_a_context_manager(engine: Engine) -> None:
    with engine.begin() as connection, once(connection, task_id="a") as first:
        assert first is True
    with engine.begin() as connection, once(connection, task_id="a") as first:
        assert first is False


def test_a_block_that_raises_is_not_done_although_the_transaction_commits(engine: Engine) -> None:
    with engine.begin() as connection:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError), once(connection, task_id="a") as first:
                1 / first - 1 / (not first)
    assert marks(engine) == []


def test_a_block_that_breaks_the_transaction_keeps_its_own_error(postgres_url: str, make_engine: Any) -> None:
    engine = make_engine(postgres_url)
    create_tables(engine)
    with engine.connect() as connection:
        with pytest.raises(Exception, match="nowhere") as caught, once(connection, task_id="a"):
            connection.execute(text("SELECT * FROM nowhere"))
        assert "left to the rollback" in caught.value.__notes__[0]
        connection.rollback()
    assert marks(engine) == []


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_a_concurrent_transaction_waits_for_the_first(engine: Engine, ending: str) -> None:
    """And goes on to work, whichever way the first one ends."""
    answers: list[bool] = []
    asked = threading.Event()

    def second() -> None:
        with engine.begin() as connection:
            event.listen(connection, "before_cursor_execute", lambda *_: asked.set())
            answers.append(bool(once(connection, task_id="a")))
            connection.execute(text(INSERT))

    thread = threading.Thread(target=second)
    with engine.connect() as connection:
        assert once(connection, task_id="a")
        thread.start()
        assert asked.wait(30)
        assert answers == [], "it must wait"
        getattr(connection, ending)()
    thread.join(30)
    assert answers == [ending == "rollback"]
    assert effects(engine) == 1


def test_many_at_a_time(engine: Engine) -> None:
    firsts: list[bool] = []

    def run(number: int) -> None:
        for n in range(20):
            with engine.begin() as connection:
                if once(connection, task_id=f"id-{n}"):
                    connection.execute(text(INSERT))
                    firsts.append(True)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(firsts) == effects(engine) == 20


def test_old_marks_are_purged(engine: Engine) -> None:
    with engine.begin() as connection:
        once(connection, task_id="a")
    with engine.begin() as connection:
        assert purge_processed(connection, "1h") == 0

    def purged() -> int:
        with engine.begin() as connection:
            return purge_processed(connection, 0.04)

    assert eventually(purged) == 1
    assert marks(engine) == []


def test_outside_a_task_it_wants_an_id(engine: Engine) -> None:
    with engine.connect() as connection, pytest.raises(TaskqError, match="inside a running task"):
        once(connection)


@pytest.mark.parametrize("given", [{"step": "x" * 201}, {"step": "a\nb"}, {"step": 7}, {"task_id": ""}])
def test_what_cannot_be_used(engine: Engine, given: dict[str, Any]) -> None:
    with engine.connect() as connection, pytest.raises(ConfigError):
        once(connection, **({"task_id": "a"} | given))


def test_autocommit_is_refused(engine: Engine) -> None:
    alone = engine.execution_options(isolation_level="AUTOCOMMIT")
    with alone.connect() as connection, pytest.raises(ConfigError, match="autocommit"):
        once(connection, task_id="a")
    assert marks(engine) == []


def test_a_begin_of_ones_own_is_a_transaction(tmp_path: Any, make_engine: Any) -> None:
    """As SQLAlchemy's documentation advises for savepoints on SQLite."""
    engine = make_engine(f"sqlite:///{tmp_path}/own.db")
    create_tables(engine)

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()
    for expected in (True, False):
        with Session(engine) as session, session.begin(), session.begin_nested():
            assert bool(once(session, task_id="a")) is expected


def test_another_database_is_refused() -> None:
    with pytest.raises(ConfigError, match="not for mysql"):
        statements.ddl("mysql")


def test_the_documented_tables_are_these() -> None:
    document = (ROOT / "docs" / "idempotency.md").read_text()
    made = ";".join(statements.ddl("postgresql")).replace("IF NOT EXISTS ", "")
    (documented,) = re.findall(r"```sql\n(CREATE .*?);\n```", document, re.DOTALL)
    assert documented.replace(";", "").split() == made.replace(";", " ").split()


def test_tables_may_be_made_again(engine: Engine) -> None:
    with engine.begin() as connection:
        once(connection, task_id="a")
    create_tables(engine)
    assert marks(engine) == [("a", "")]


KILLED = """
import os, signal
from sqlalchemy import Engine, create_engine, text
from taskq import TaskQ, current_task
from taskq.contrib.sqlalchemy import once

app = TaskQ("shop", lease_timeout=1)
engine = create_engine(os.environ["SHOP_DATABASE"])

@app.task(name="pay", max_retries=0)
def pay(when):
    first = current_task().deliveries == 1
    with engine.connect() as connection:
        if once(connection):
            connection.execute(text("INSERT INTO effect (name, value) VALUES ('paid', 1)"))
        if first and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        connection.commit()
    if first and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return when
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_killed_around_the_commit(
    app: TaskQ,
    engine: Engine,
    database_url: str,
    spawn: Callable[..., Proc],
    tmp_path: Any,
    redis_url: str,
    namespace: str,
    when: str,
) -> None:
    (tmp_path / "shop.py").write_text(KILLED)
    env = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace, "SHOP_DATABASE": database_url}
    result = app.send_task("pay", (when,))
    first = spawn("-m", "taskq", "worker", "-A", "shop:app", env=env)
    assert first.wait() == -9
    second = spawn("-m", "taskq", "worker", "-A", "shop:app", env=env)
    assert result.get(timeout=60) == when
    assert effects(engine) == 1
    second.signal(signal.SIGTERM)
    assert second.wait() == 0


# --- plain DB-API connections ------------------------------------------------------------------------------------


def connect(url: str) -> Any:
    """A connection of the driver itself."""
    if url.startswith("sqlite"):
        return sqlite3.connect(url.removeprefix("sqlite:///"))
    return psycopg.connect(url.replace("+psycopg", ""))


def test_a_plain_connection(database_url: str) -> None:
    with closing(connect(database_url)) as connection:
        dbapi.create_tables(connection, "sqlite" if database_url.startswith("sqlite") else "postgresql")
        connection.commit()
        assert dbapi.once(connection, task_id="a")
        connection.rollback()
        assert dbapi.once(connection, task_id="a")
        connection.commit()
        assert not dbapi.once(connection, task_id="a")
        assert dbapi.once(connection, "another step", task_id="a")
        connection.commit()
        assert dbapi.purge_processed(connection, "1h") == 0
        # a mark of this very millisecond is not yet older than no time at all
        eventually(lambda: (dbapi.purge_processed(connection, 0), dbapi.once(connection, task_id="a"))[1])


def test_both_kinds_share_the_marks(engine: Engine, database_url: str) -> None:
    with engine.begin() as connection:
        assert once(connection, task_id="a")
    with closing(connect(database_url)) as plain:
        assert not dbapi.once(plain, task_id="a")


def test_a_connection_that_commits_by_itself_is_refused(database_url: str) -> None:
    with closing(connect(database_url)) as connection:
        dbapi.create_tables(connection, "sqlite" if database_url.startswith("sqlite") else "postgresql")
        connection.commit()
        if database_url.startswith("sqlite"):
            connection.isolation_level = None
        else:
            connection.autocommit = True
        with pytest.raises(ConfigError, match="autocommit"):
            dbapi.once(connection, task_id="a")
        connection.execute("BEGIN")
        assert dbapi.once(connection, task_id="a"), "a transaction that was opened by hand is one"
        connection.execute("COMMIT")


@pytest.mark.parametrize(
    ("style", "text", "values"),
    [
        ("qmark", "VALUES (?, ?) OR ?", [1, 2, 1]),
        ("format", "VALUES (%s, %s) OR %s", [1, 2, 1]),
        ("numeric", "VALUES (:1, :2) OR :3", [1, 2, 1]),
        ("named", "VALUES (:a, :b) OR :a", {"a": 1, "b": 2}),
        ("pyformat", "VALUES (%(a)s, %(b)s) OR %(a)s", {"a": 1, "b": 2}),
    ],
)
def test_every_paramstyle(style: str, text: str, values: Any) -> None:
    assert statements.for_paramstyle("VALUES (:a, :b) OR :a", {"a": 1, "b": 2}, style) == (text, values)


def test_an_unknown_paramstyle() -> None:
    with pytest.raises(ConfigError, match="paramstyle"):
        statements.for_paramstyle("", {}, "roman")

    class Odd:
        def cursor(self) -> None: ...

    Odd.__module__ = "a_driver_that_does_not_say"
    with pytest.raises(ConfigError, match="give paramstyle="):
        dbapi.once(Odd(), task_id="a")
