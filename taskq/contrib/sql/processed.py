"""The mark that a transaction of a task leaves, so that it is committed once however often the task runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from taskq.client.context import current_task
from taskq.contrib.sql import statements
from taskq.errors import ConfigError
from taskq.values.durations import Duration, milliseconds
from taskq.values.message import check_id

Execute = Callable[[str, Mapping[str, Any]], int]
"""Runs one statement in the caller's transaction and returns how many rows it has changed."""

MAX_STEP = 200


class Once:
    """The answer of ``once()``: true where the step is to be done, false where it was committed before.

    As a context manager it gives that answer to ``as``. When the block raises, the mark is taken back, so that a
    transaction which is committed all the same does not count the step as done.
    """

    __slots__ = ("_first", "_forget")

    def __init__(self, first: bool, forget: Callable[[], object]) -> None:
        self._first = first
        self._forget = forget

    def __repr__(self) -> str:
        return f"<Once {'first' if self._first else 'done before'}>"

    def __bool__(self) -> bool:
        return self._first

    def __enter__(self) -> bool:
        return self._first

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or not self._first:
            return
        try:
            self._forget()
        except Exception as trouble:  # a transaction that has failed already: the mark goes with it
            error.add_note(f"taskq: the mark of once() was left to the rollback ({type(trouble).__name__})")


def mark(execute: Execute, step: str, task_id: str | None) -> Once:
    """Insert the mark of a step.

    Args:
        execute: runs a statement in the caller's transaction.
        step: which of the task's transactions this is: at most 200 printable characters, or empty.
        task_id: whose; None is the task that runs here.

    Raises:
        TaskqError: outside a task, without *task_id*.
        ConfigError: a step or id that cannot be used.
    """
    owner = current_task().id if task_id is None else check_id(task_id)
    if not isinstance(step, str) or len(step) > MAX_STEP or not step.isprintable():
        raise ConfigError(f"step must be at most {MAX_STEP} printable characters, not {step!r}")
    values = {"task_id": owner, "step": step}
    # a concurrent transaction with the same mark is waited for, and then decides
    first = execute(statements.MARK, {**values, "created_ms": now_ms()}) == 1
    return Once(first, lambda: execute(statements.UNMARK, values))


def refuse_autocommit(connection: Any, what: str) -> None:
    """A mark or message that commits by itself, apart from its effects, would be worse than none.

    Args:
        connection: the driver's own.
        what: needs the transaction, for the error.

    Raises:
        ConfigError: each of its statements would be a transaction.
    """
    if hasattr(connection, "in_transaction"):  # sqlite3
        alone = connection.isolation_level is None or getattr(connection, "autocommit", False) is True
        is_open = connection.in_transaction
    else:
        alone = getattr(connection, "autocommit", False) is True
        # of libpq, 0 is idle; a driver that cannot be asked is believed
        is_open = getattr(getattr(connection, "info", None), "transaction_status", 1) != 0
    if alone and not is_open:
        raise ConfigError(f"{what} needs a transaction: the connection is in autocommit mode and none is open")


def purge(execute: Execute, older_than: Duration) -> int:
    """Delete marks of that age; returns how many."""
    return execute(statements.PURGE, {"before": now_ms() - milliseconds(older_than, "older_than")})


def now_ms() -> int:
    """This host's epoch milliseconds."""
    return time.time_ns() // 1_000_000
