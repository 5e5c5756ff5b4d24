"""The relay: publishes what committed transactions have left in the outbox.

A row is read, published and deleted, in this order, so a relay that dies at any point loses none. What it published
and did not delete comes again, and Redis knows its id: nothing is published twice. Relays on PostgreSQL lock the
rows they have in hand and pass over those of others, and events are in the hands of one at a time; on SQLite two of
them may publish the same row, of which one takes effect. Nothing is locked there while the relay talks to Redis, since
that would lock out every writer.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, text
from sqlalchemy.exc import DBAPIError

from taskq import failpoints
from taskq.broker.scripts import MAX_PER_CALL
from taskq.client.app import TaskQ
from taskq.contrib.sql import statements
from taskq.contrib.sql.processed import now_ms
from taskq.contrib.sql.publisher import Publisher
from taskq.errors import BrokerError, TaskqError
from taskq.values.checks import check_count
from taskq.values.durations import Duration, seconds

logger = logging.getLogger("taskq.outbox")

LONGEST_HOLD_MS = 60_000
"""After so long PostgreSQL takes a page from a relay that was stopped, or whose host has gone without a word."""
SHORTEST_PAUSE = 0.02
"""Seconds to the next look after an empty one; doubled up to the poll time while the outbox stays empty."""
LONGEST_TROUBLE = 5.0
"""Seconds between tries while the database or Redis cannot be used; the first comes after 0.1."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in the outbox."""

    count: int
    oldest_age: float | None
    """Seconds since the oldest row was written; None when it is empty."""


def create_tables(engine: Engine) -> None:
    """Make the tables ``taskq_processed_message`` and ``taskq_outbox`` where they are missing.

    With migrations of your own, have them run the statements of :func:`taskq.contrib.sql.statements.ddl`.

    Raises:
        ConfigError: the database is neither SQLite nor PostgreSQL.
    """
    wanted = statements.ddl(engine.dialect.name)
    with engine.begin() as connection:
        for statement in wanted:
            connection.execute(text(statement))


class OutboxRelay:
    """Publishes the rows of one database's outbox. Run as many as you like; ``taskq outbox-relay`` is one.

    The events of one topic leave in the order of their ids. So do the messages of one queue and level with one relay
    at work; with several, each page does.

    Args:
        engine: of the database.
        app: says where Redis is and which namespace; its tasks need not be known here.
        page: rows taken at a time, at most 1,000.
        poll: seconds between looks at an empty outbox, at most.

    Raises:
        ConfigError: a database, page or poll time that cannot be used.
    """

    def __init__(self, engine: Engine, app: TaskQ, *, page: int = 500, poll: Duration = 0.5) -> None:
        statements.ddl(engine.dialect.name)
        self._engine = engine
        self._app = app
        self._page = check_count(page, "page", 1, MAX_PER_CALL)
        self._poll = max(seconds(poll, "poll"), SHORTEST_PAUSE)
        self._locks = engine.dialect.name == "postgresql"
        self._select = text(statements.SELECT_LOCKED if self._locks else statements.SELECT)
        self._delete = text(statements.DELETE).bindparams(bindparam("ids", expanding=True))
        self._publisher = Publisher(app)

    def create_tables(self) -> None:
        """Make taskq's tables where they are missing.

        Raises:
            TaskqError: the database cannot be used.
        """
        try:
            create_tables(self._engine)
        except DBAPIError as error:
            raise TaskqError(f"taskq's tables cannot be made: {_text(error)}") from error

    def check(self) -> None:
        """See that the database and Redis answer, and that the outbox is there.

        Raises:
            TaskqError: the database cannot be used.
            BrokerError: Redis cannot be used.
        """
        try:
            self.backlog()
        except DBAPIError as error:
            text = _text(error)
            missing = re.search(r'no such table: taskq_outbox|"taskq_outbox" does not exist', text)
            remedy = " (--create-tables makes its table)" if missing else ""
            raise TaskqError(f"the outbox cannot be read{remedy}: {text}") from error
        self._app.sync_broker.execute("PING")

    def backlog(self) -> Backlog:
        """How much waits, and for how long.

        Raises:
            sqlalchemy.exc.DBAPIError: the database cannot be used.
        """
        with self._engine.connect() as connection:
            count, oldest = connection.execute(text(statements.BACKLOG)).one()
        return Backlog(count, None if oldest is None else max(now_ms() - oldest, 0) / 1000)

    def run_once(self) -> int:
        """Publish one page; returns how many rows it had.

        Raises:
            BrokerError: Redis cannot be used; the rows stay.
            sqlalchemy.exc.DBAPIError: the database cannot be used. What was published will not be published again.
        """
        with self._engine.connect() as connection:
            if self._locks:
                # whatever the user's engine says: in autocommit mode a lock ends with its statement
                connection.execution_options(isolation_level="READ COMMITTED")
                connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = {LONGEST_HOLD_MS}"))
            rows = connection.execute(self._select, {"page": self._page}).all()
            if not self._locks:
                connection.rollback()
            if rows:
                if failpoints.ARMED:
                    failpoints.hit("relay.read")
                self._publish(rows)
                if failpoints.ARMED:
                    failpoints.hit("relay.published")
                self._forget(connection, [row.id for row in rows])
            if failpoints.ARMED:
                failpoints.hit("relay.forgotten")
            connection.commit()
            if failpoints.ARMED:
                failpoints.hit("relay.done")
        return len(rows)

    def run(self, stop: threading.Event, *, burst: bool = False) -> None:
        """Publish until *stop* is set; with *burst*, until the outbox is empty. No trouble ends it."""
        pause, trouble, quiet_until = 0.0, 0.0, 0.0
        while not stop.is_set():
            try:
                moved = self.run_once()
            except (BrokerError, DBAPIError) as error:
                if time.monotonic() >= quiet_until:
                    quiet_until = time.monotonic() + 1.0
                    logger.warning("%s; trying again", _text(error))
                trouble = min(max(trouble * 2, 0.1), LONGEST_TROUBLE)
                stop.wait(trouble)
                continue
            trouble = 0.0
            if moved:
                pause = 0.0
            elif burst:
                return
            else:
                pause = min(max(pause * 2, SHORTEST_PAUSE), self._poll)
                stop.wait(pause)

    def _publish(self, rows: Sequence[Any]) -> None:
        self._publisher.publish(rows)

    def _forget(self, connection: Connection, ids: list[int]) -> None:
        connection.execute(self._delete, {"ids": ids})


def _text(error: Exception) -> str:
    """What went wrong, without the statement and its parameters."""
    return str(error.orig if isinstance(error, DBAPIError) else error).strip()
