"""The spool: where messages wait on local disk while Redis cannot be reached.

A page of messages is kept with the producer id and sequence number of the call that failed. When it is sent later,
by this process or by the next one after a crash, Redis refuses it if the failed call had been executed after all:
a message goes out once, although nobody knew whether it had gone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taskq import failpoints, serialization
from taskq.broker.keys import Keys
from taskq.broker.producer import Outgoing, plan
from taskq.broker.sync import SyncBroker
from taskq.errors import BrokerError, BrokerUnavailableError, SpoolFullError

logger = logging.getLogger("taskq.spool")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS page (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    producer BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    body BLOB NOT NULL
)
"""
RETRY_EVERY = 0.5
"""Seconds between tries to empty the spool."""


class Spool:
    """A bounded queue of pages in a SQLite file; every write is on disk when it returns.

    Several processes may share one file.

    Args:
        path: of the file; its directory must exist.
        limit: how many messages it holds at most.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str | Path, limit: int) -> None:
        import sqlite3  # most processes have no spool

        self._limit = limit
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.execute(_SCHEMA)
        except sqlite3.Error as error:
            raise OSError(f"the spool {path} cannot be opened: {error}") from error

    def add(self, producer: bytes, sequence: int, page: Sequence[Outgoing]) -> None:
        """Keep *page*, to be sent under the given identity.

        Raises:
            SpoolFullError: no room; nothing was kept.
        """
        body = serialization.dumps(
            [(m.keys.queue, m.level, _absolute(m.due), m.unique_id, m.data, m.ordering_key) for m in page]
        )
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                (held,) = self._database.execute("SELECT coalesce(sum(messages), 0) FROM page").fetchone()
                if held + len(page) > self._limit:
                    raise SpoolFullError(f"Redis cannot be reached and the spool is full ({held} messages)")
                self._database.execute(
                    "INSERT INTO page (producer, sequence, messages, body) VALUES (?, ?, ?, ?)",
                    (producer, sequence, len(page), body),
                )
                self._database.execute("COMMIT")
            except BaseException:
                self._database.execute("ROLLBACK")
                raise

    def first(self) -> tuple[int, bytes, int, list[Any]] | None:
        """The oldest page: row id, producer, sequence, messages as plain data; None when the spool is empty."""
        with self._lock:
            row = self._database.execute("SELECT id, producer, sequence, body FROM page ORDER BY id LIMIT 1").fetchone()
        return None if row is None else (row[0], row[1], row[2], serialization.loads(row[3]))

    def remove(self, row: int) -> None:
        """Forget a page that was sent."""
        with self._lock:
            self._database.execute("DELETE FROM page WHERE id = ?", (row,))

    def __len__(self) -> int:
        with self._lock:
            return int(self._database.execute("SELECT coalesce(sum(messages), 0) FROM page").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()


class Flusher:
    """Sends what the spool holds, in order, as soon as Redis is back; a thread that ends when the spool is empty.

    Args:
        spool: what to empty.
        broker: sends.
        keys: of the namespace.
    """

    def __init__(self, spool: Spool, broker: SyncBroker, keys: Keys) -> None:
        self._spool = spool
        self._broker = broker
        self._keys = keys
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def busy(self) -> bool:
        """Whether pages wait: then new messages must queue behind them."""
        return self._thread is not None

    def start(self) -> None:
        """Begin to empty the spool, if that is not under way."""
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="taskq-spool", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread; what is left waits on disk."""
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.is_set():
            page = self._spool.first()
            if page is None:
                with self._lock:
                    if len(self._spool) == 0:  # under the lock: a page added now finds the thread gone, and starts one
                        self._thread = None
                        return
                continue
            row, producer, sequence, messages = page
            try:
                if failpoints.ARMED:
                    failpoints.hit("spool.send")
                self._send(producer, sequence, messages)
            except BrokerError as error:
                level = logging.DEBUG if isinstance(error, BrokerUnavailableError) else logging.WARNING
                logger.log(level, "%d messages stay in the spool: %s", len(messages), error)
                self._stop.wait(RETRY_EVERY)
            else:
                if failpoints.ARMED:
                    failpoints.hit("spool.sent")
                self._spool.remove(row)
                if failpoints.ARMED:
                    failpoints.hit("spool.removed")
        self._thread = None

    def _send(self, producer: bytes, sequence: int, messages: Sequence[Any]) -> None:
        page = [
            Outgoing(self._keys.queue(queue), level, data, due, "raise", unique_id, *ordering_key)
            for queue, level, due, unique_id, data, *ordering_key in messages  # older releases wrote no ordering key
        ]
        self._broker.execute("SADD", self._keys.queues, page[0].keys.queue, deadline=RETRY_EVERY)
        self._broker.run(plan(page)(producer, sequence), deadline=RETRY_EVERY)


def _absolute(due: str | None) -> str | None:
    """A countdown runs from now, not from when Redis is back."""
    if due is None or not due.startswith("+"):
        return due
    return str(time.time_ns() // 1_000_000 + int(due))
