"""Effects in a SQL database that happen exactly once, over SQLAlchemy: ``once`` and the outbox.

For SQLite and PostgreSQL; ``pip install "taskq-streams[sqlalchemy]"``. ``docs/idempotency.md`` says when to use which::

    @app.task
    def pay_out(account: int, amount: int) -> None:
        with Session.begin() as session:
            if once(session):                                   # the mark ...
                session.execute(...)                            # ... and the effect are one transaction
                outbox.delay(session, send_receipt, account)    # ... and so is the message that follows
                outbox.publish(session, payouts, {"to": account})    # ... and the event

Every function takes a ``Session``, a ``scoped_session`` or a ``Connection`` and works in its transaction; none
begins, commits or rolls back. With an ``AsyncSession``: ``await session.run_sync(once)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

try:
    from sqlalchemy import Connection, CursorResult, text
    from sqlalchemy.orm import Session, scoped_session
except ImportError as error:
    from taskq import errors

    raise errors.ConfigError('SQLAlchemy is not installed: pip install "taskq-streams[sqlalchemy]"') from error

from taskq.client.result import Result
from taskq.client.task import BaseTask, BoundOptions
from taskq.contrib.sql import processed, statements
from taskq.contrib.sql.processed import Execute, Once
from taskq.contrib.sql.relay import Backlog, OutboxRelay, create_tables
from taskq.contrib.sql.rows import all_prepared, event_rows, prepared
from taskq.errors import ConfigError
from taskq.values.checks import shown
from taskq.values.durations import Duration
from taskq.values.topics import Topic
from taskq.values.transaction import KeyOf

__all__ = ["Backlog", "Once", "OutboxRelay", "create_tables", "once", "outbox", "purge_processed"]

P = ParamSpec("P")
R = TypeVar("R")
Transactional: TypeAlias = "Session | scoped_session[Any] | Connection"


def once(session: Transactional, step: str = "", *, task_id: str | None = None) -> Once:
    """Whether this step of the running task is still to be done; if so, it counts as done when *session* commits.

    A row with the task id and *step* is inserted in the session's transaction. Committed together with the effects,
    it makes every later run of the message (after a crash, a lost lease, a retry or a replay) pass them over. A
    concurrent run waits for the first one to commit or roll back, and its transaction stays usable.

    Args:
        session: whose transaction holds the effects. It must not be in autocommit mode.
        step: tells several transactions of one task apart: at most 200 printable characters.
        task_id: the id to go by; default that of the running task.

    Raises:
        TaskqError: outside a task, without *task_id*.
        ConfigError: a step or id that cannot be used; no session, or one in autocommit mode, or of a database that is
            neither SQLite nor PostgreSQL.
        sqlalchemy.exc.DBAPIError: the database refuses; let the task fail and be retried.
    """
    return processed.mark(_transaction_of(session, "once()"), step, task_id)


def purge_processed(session: Transactional, older_than: Duration) -> int:
    """Delete the marks of :func:`once` of that age; returns how many.

    Keep them for longer than a message can come again: the longest run of retries, and how late you still replay
    from the dead letter queue.
    """
    return processed.purge(_execute_in(session), older_than)


class Outbox:
    """Messages and events that leave if a transaction commits, and not if it rolls back. Use :data:`outbox`."""

    def delay(
        self,
        session: Transactional,
        call: BaseTask[P, R] | BoundOptions[P, R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Result[R]:
        """Write the message of a call into the outbox, in the session's transaction.

        Args:
            session: whose commit sends it. ``taskq outbox-relay`` does the sending.
            call: a task, or ``task.options(...)``; a countdown begins now.
            *args, **kwargs: what the task is called with.

        Raises:
            ArgumentsError, SerializationError: as ``.delay()``.
            ConfigError: no task; no session, or one in autocommit mode, or of a database that is neither SQLite nor
                PostgreSQL.
            sqlalchemy.exc.DBAPIError: the database refuses.
        """
        row, result = prepared(call, args, kwargs)
        _insert(session, [row])
        return result

    def delay_many(
        self, session: Transactional, call: BaseTask[..., R] | BoundOptions[..., R], calls: Iterable[Sequence[Any]]
    ) -> list[Result[R]]:
        """As :meth:`delay`, one message for each argument tuple, in one statement."""
        rows, results = all_prepared(call, calls)
        _insert(session, rows)
        return results

    def publish(self, session: Transactional, topic: Topic, payload: Any, *, key: str | None = None) -> None:
        """Write an event into the outbox, in the session's transaction: every group of the topic will get it.

        Args:
            session: whose commit publishes it. ``taskq outbox-relay`` does the publishing.
            topic: as ``app.topic("orders")`` returns it.
            payload: plain data, as for ``app.publish``.
            key: events of one key belong together; they are published in the order in which they were written.

        Raises:
            UnknownTopicError, ConfigError, SerializationError: as ``app.publish``; then nothing is written.
            ConfigError: also as :meth:`delay`.
            sqlalchemy.exc.DBAPIError: the database refuses.
        """
        _insert(session, event_rows(topic, (payload,), lambda _: key))

    def publish_many(
        self, session: Transactional, topic: Topic, payloads: Iterable[Any], *, key: KeyOf | None = None
    ) -> int:
        """As :meth:`publish`, one event for each payload, in one statement; how many there were.

        Args:
            session, topic, payloads: as above.
            key: tells the key of a payload, such as ``lambda order: order["customer"]``.
        """
        rows = event_rows(topic, payloads, key)
        _insert(session, rows)
        return len(rows)


outbox = Outbox()


def _insert(session: Transactional, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        _transaction_of(session, "the outbox")
        session.execute(text(statements.INSERT), [dict(row) for row in rows])


def _transaction_of(session: Transactional, what: str) -> Execute:
    """As :func:`_execute_in`, for *what* would be worth nothing if each statement committed by itself."""
    execute = _execute_in(session)
    connection = session if isinstance(session, Connection) else session.connection()
    processed.refuse_autocommit(connection.connection.driver_connection, what)
    return execute


def _execute_in(session: Transactional) -> Execute:
    if not isinstance(session, (Session, scoped_session, Connection)):
        raise ConfigError(
            f"give the Session, scoped_session or Connection whose transaction it is, not {shown(session)}; "
            "with an AsyncSession: await session.run_sync(outbox.delay, ...)"
        )
    bind = session if isinstance(session, Connection) else session.get_bind()
    statements.ddl(bind.dialect.name)  # refuses a database on which the statements were never tried

    def execute(statement: str, values: Mapping[str, Any]) -> int:
        return cast("CursorResult[Any]", session.execute(text(statement), dict(values))).rowcount

    return execute
