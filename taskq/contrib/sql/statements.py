"""The two tables, and every statement on them: the same text for SQLite and PostgreSQL but for the tables' types.

============================  =========  ==================================================================
``taskq_processed_message``   text       one row for each step that a transaction of a task has committed
 ``task_id``, ``step``        text       together the primary key: the second transaction finds it taken
 ``created_ms``               integer    epoch milliseconds, for :data:`PURGE`
``taskq_outbox``              text       one row for each message or event that was not published yet
 ``id``                       integer    rises; the relay publishes in its order
 ``task_id``                  text       of the message, or an event's own: the relay publishes each once
 ``queue``, ``level``         text, int  where it goes; of an event its topic, and -1
 ``due_ms``                   integer    epoch milliseconds before which it must not start; NULL is at once
 ``data``                     binary     the message or event, see ``docs/wire-format.md``
 ``created_ms``               integer    epoch milliseconds, to see how far behind the relay is
============================  =========  ==================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from taskq.errors import ConfigError

DDL = {
    "sqlite": (
        """CREATE TABLE IF NOT EXISTS taskq_processed_message (
    task_id VARCHAR(200) NOT NULL,
    step VARCHAR(200) NOT NULL,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (task_id, step)
)""",
        """CREATE INDEX IF NOT EXISTS taskq_processed_message_created
    ON taskq_processed_message (created_ms)""",
        """CREATE TABLE IF NOT EXISTS taskq_outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id VARCHAR(200) NOT NULL,
    queue VARCHAR(100) NOT NULL,
    level SMALLINT NOT NULL,
    due_ms BIGINT,
    data BLOB NOT NULL,
    created_ms BIGINT NOT NULL
)""",
    ),
    "postgresql": (
        """CREATE TABLE IF NOT EXISTS taskq_processed_message (
    task_id VARCHAR(200) NOT NULL,
    step VARCHAR(200) NOT NULL,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (task_id, step)
)""",
        """CREATE INDEX IF NOT EXISTS taskq_processed_message_created
    ON taskq_processed_message (created_ms)""",
        """CREATE TABLE IF NOT EXISTS taskq_outbox (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task_id VARCHAR(200) NOT NULL,
    queue VARCHAR(100) NOT NULL,
    level SMALLINT NOT NULL,
    due_ms BIGINT,
    data BYTEA NOT NULL,
    created_ms BIGINT NOT NULL
)""",
    ),
}
"""What makes the tables, by dialect; each statement may be run again."""

MARK = """INSERT INTO taskq_processed_message (task_id, step, created_ms)
VALUES (:task_id, :step, :created_ms) ON CONFLICT DO NOTHING"""
UNMARK = "DELETE FROM taskq_processed_message WHERE task_id = :task_id AND step = :step"
PURGE = "DELETE FROM taskq_processed_message WHERE created_ms < :before"
INSERT = """INSERT INTO taskq_outbox (task_id, queue, level, due_ms, data, created_ms)
VALUES (:task_id, :queue, :level, :due_ms, :data, :created_ms)"""
SELECT = "SELECT id, task_id, queue, level, due_ms, data FROM taskq_outbox ORDER BY id LIMIT :page"
SELECT_LOCKED = """SELECT id, task_id, queue, level, due_ms, data FROM taskq_outbox
WHERE level >= 0 OR (SELECT pg_try_advisory_xact_lock(
    hashtextextended('taskq_outbox', CAST(CAST('taskq_outbox' AS regclass) AS bigint))))
ORDER BY id LIMIT :page FOR UPDATE SKIP LOCKED"""
"""As :data:`SELECT`, of the rows that no other relay has in hand. SQLite has no such locks.

Events are in the hands of one relay at a time, since a relay that passes over those of another would publish later
events of a key before earlier ones. The lock is asked for once, when the first event is met."""
DELETE = "DELETE FROM taskq_outbox WHERE id IN :ids"
BACKLOG = "SELECT COUNT(*), MIN(created_ms) FROM taskq_outbox"

_PARAMETER = re.compile(r":(\w+)")
_PLACEHOLDERS = {"qmark": "?", "format": "%s", "numeric": ":{n}", "named": ":{name}", "pyformat": "%({name})s"}


def ddl(dialect: str) -> Sequence[str]:
    """The statements that make the tables.

    Raises:
        ConfigError: not a dialect we know.
    """
    if dialect not in DDL:
        raise ConfigError(f"taskq's tables are for {' and '.join(DDL)}, not for {dialect}")
    return DDL[dialect]


def for_paramstyle(
    statement: str, values: Mapping[str, Any], paramstyle: str
) -> tuple[str, Mapping[str, Any] | list[Any]]:
    """*statement* and *values* as a DB-API driver of that ``paramstyle`` takes them (PEP 249).

    Raises:
        ConfigError: there is no such style.
    """
    if paramstyle not in _PLACEHOLDERS:
        raise ConfigError(f"paramstyle must be one of {', '.join(_PLACEHOLDERS)}, not {paramstyle!r}")
    names: list[str] = _PARAMETER.findall(statement)
    numbers = iter(range(1, len(names) + 1))
    placeholder = _PLACEHOLDERS[paramstyle]
    text = _PARAMETER.sub(lambda match: placeholder.format(n=next(numbers), name=match[1]), statement)
    return text, values if paramstyle in ("named", "pyformat") else [values[name] for name in names]
