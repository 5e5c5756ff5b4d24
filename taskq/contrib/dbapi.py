"""Effects in a SQL database that happen exactly once, over a plain DB-API connection (PEP 249).

As :mod:`taskq.contrib.sqlalchemy`, for ``sqlite3``, ``psycopg`` and other drivers of SQLite and PostgreSQL::

    with psycopg.connect(...) as connection:
        if dbapi.once(connection):
            connection.execute("UPDATE account ...")
            dbapi.outbox.delay(connection, send_receipt, 42)
            dbapi.outbox.publish(connection, payouts, {"account": 7})

Every function works in the connection's open transaction; none begins, commits or rolls back. What writes the
outbox is here, what empties it is ``taskq outbox-relay``, which needs SQLAlchemy where it runs.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any, ParamSpec, Protocol, TypeVar

from taskq.client.result import Result
from taskq.client.task import BaseTask, BoundOptions
from taskq.contrib.sql import processed, statements
from taskq.contrib.sql.processed import Execute, Once
from taskq.contrib.sql.rows import all_prepared, event_rows, prepared
from taskq.errors import ConfigError
from taskq.values.checks import shown
from taskq.values.durations import Duration
from taskq.values.topics import Topic
from taskq.values.transaction import KeyOf

__all__ = ["Once", "create_tables", "once", "outbox", "purge_processed"]

P = ParamSpec("P")
R = TypeVar("R")


class DBAPIConnection(Protocol):
    """The part of PEP 249 that is used."""

    def cursor(self) -> Any: ...


def create_tables(connection: DBAPIConnection, dialect: str) -> None:
    """Make the tables ``taskq_processed_message`` and ``taskq_outbox`` where they are missing.

    Args:
        connection: its transaction is used, and left open.
        dialect: ``sqlite`` or ``postgresql``.

    Raises:
        ConfigError: another dialect.
    """
    with closing(connection.cursor()) as cursor:
        for statement in statements.ddl(dialect):
            cursor.execute(statement)


def once(
    connection: DBAPIConnection, step: str = "", *, task_id: str | None = None, paramstyle: str | None = None
) -> Once:
    """As :func:`taskq.contrib.sqlalchemy.once`, in the transaction of *connection*.

    Args:
        connection: whose transaction holds the effects.
        step: tells several transactions of one task apart.
        task_id: the id to go by; default that of the running task.
        paramstyle: of the driver; default what its module says.

    Raises:
        TaskqError: outside a task, without *task_id*.
        ConfigError: a step or id that cannot be used, or a connection in autocommit mode.
    """
    execute = _execute_in(connection, paramstyle)
    processed.refuse_autocommit(connection, "once()")
    return processed.mark(execute, step, task_id)


def purge_processed(connection: DBAPIConnection, older_than: Duration, *, paramstyle: str | None = None) -> int:
    """As :func:`taskq.contrib.sqlalchemy.purge_processed`."""
    return processed.purge(_execute_in(connection, paramstyle), older_than)


class Outbox:
    """As :class:`taskq.contrib.sqlalchemy.Outbox`, over a DB-API connection. Use :data:`outbox`."""

    def delay(
        self,
        connection: DBAPIConnection,
        call: BaseTask[P, R] | BoundOptions[P, R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Result[R]:
        """Write the message of a call into the outbox, in the connection's transaction."""
        row, result = prepared(call, args, kwargs)
        _insert(connection, [row])
        return result

    def delay_many(
        self, connection: DBAPIConnection, call: BaseTask[..., R] | BoundOptions[..., R], calls: Iterable[Sequence[Any]]
    ) -> list[Result[R]]:
        """As :meth:`delay`, one message for each argument tuple."""
        rows, results = all_prepared(call, calls)
        _insert(connection, rows)
        return results

    def publish(self, connection: DBAPIConnection, topic: Topic, payload: Any, *, key: str | None = None) -> None:
        """Write an event into the outbox, in the connection's transaction."""
        _insert(connection, event_rows(topic, (payload,), lambda _: key))

    def publish_many(
        self, connection: DBAPIConnection, topic: Topic, payloads: Iterable[Any], *, key: KeyOf | None = None
    ) -> int:
        """As :meth:`publish`, one event for each payload; how many there were."""
        rows = event_rows(topic, payloads, key)
        _insert(connection, rows)
        return len(rows)


outbox = Outbox()


def _insert(connection: DBAPIConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    execute = _execute_in(connection)
    processed.refuse_autocommit(connection, "the outbox")
    for row in rows:
        execute(statements.INSERT, row)


def _execute_in(connection: DBAPIConnection, paramstyle: str | None = None) -> Execute:
    _check_connection(connection)
    style = paramstyle or _paramstyle(connection)

    def execute(statement: str, values: Mapping[str, Any]) -> int:
        with closing(connection.cursor()) as cursor:
            cursor.execute(*statements.for_paramstyle(statement, values, style))
            return int(cursor.rowcount)

    return execute


def _check_connection(connection: object) -> None:
    """Refuse what is not a connection, and one whose statements would be coroutines that nobody awaits."""
    kind = type(connection)
    if not callable(getattr(kind, "cursor", None)):
        raise ConfigError(
            f"give a connection of a DB-API driver, not {shown(connection)}; sessions and connections of SQLAlchemy go "
            "with taskq.contrib.sqlalchemy"
        )
    if any(inspect.iscoroutinefunction(getattr(kind, name, None)) for name in ("commit", "execute")):
        raise ConfigError(f"an async connection cannot be used here, such as {kind.__qualname__}: give a sync one")


def _paramstyle(connection: DBAPIConnection) -> str:
    """What the driver's module says; drivers keep their connection class in it or below it."""
    for kind in type(connection).__mro__:  # a subclass of the user's comes first
        parts = kind.__module__.split(".")
        for end in range(len(parts), 0, -1):
            style = getattr(sys.modules.get(".".join(parts[:end])), "paramstyle", None)
            if isinstance(style, str):
                return style
    raise ConfigError(f"the driver of {type(connection)!r} does not say its paramstyle; give paramstyle=")
