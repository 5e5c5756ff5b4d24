"""The spool: where messages wait on local disk while Redis cannot be reached.

A page of messages is kept with the producer id and sequence number of the call that failed. When it is sent later,
by this process or by the next one after a crash, Redis refuses it if the failed call had been executed after all:
a message goes out once, although nobody knew whether it had gone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskq import failpoints
from taskq.broker.keys import Keys
from taskq.broker.link.sync import SyncBroker
from taskq.broker.producer import Outgoing, plan
from taskq.client import private_files
from taskq.errors import BrokerError, BrokerUnavailableError, SpoolFullError
from taskq.values import serialization

if TYPE_CHECKING:
    import sqlite3

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
LOOK_AGAIN = 5.0
"""Seconds until it is tried again after trouble that is not Redis's."""


class Spool:
    """A bounded queue of pages in a SQLite file; every write is on disk when it returns.

    Several processes may share one file, also those forked from one that used it. Other users cannot read it.
    In a directory that everybody can write to it goes into one of our own there.

    Args:
        path: of the file; its directory must exist.
        limit: how many messages it holds at most.

    Raises:
        ConfigError: the file is a link or of another user, or others can replace it.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str | Path, limit: int) -> None:
        self._path = private_files.place_of(Path(path).absolute(), "spool_path")
        self._limit = limit
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._open: sqlite3.Connection | None = None
        _spools.add(self)
        len(self)  # whether it can be used

    @property
    def _database(self) -> sqlite3.Connection:
        """The open file; asked for under the lock."""
        if self._open is None:
            self._open = self._opened()
        return self._open

    def _opened(self) -> sqlite3.Connection:
        import sqlite3  # most processes have no spool

        if _open_files.get(self._path, self._pid) != self._pid:
            raise BrokerUnavailableError(
                f"the spool {self._path} was open when this process was forked, and Python was not told of the fork "
                "(uWSGI: set py-call-uwsgi-fork-hooks, or lazy-apps)"
            )
        private_files.check_file(self._path, "spool_path")
        for beside in ("-wal", "-shm", "-journal"):
            private_files.close_to_others(self._path.with_name(self._path.name + beside), "spool_path")
        database: sqlite3.Connection | None = None
        try:
            database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=10)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            database.execute(_SCHEMA)
        except sqlite3.Error as error:
            if database is not None:
                database.close()
            raise OSError(f"the spool {self._path} cannot be opened: {error}") from error
        try:
            private_files.check_file(self._path, "spool_path")  # nobody has put another one there meanwhile
        except BaseException:
            database.close()
            raise
        _open_files[self._path] = self._pid
        return database

    @contextlib.contextmanager
    def _turn(self) -> Iterator[sqlite3.Connection]:
        """The file, for one thread at a time."""
        if self._pid != os.getpid():
            self.begin_in_child()  # a fork that Python was not told of
        with self._lock:
            yield self._database

    def begin_in_child(self) -> None:
        """In a forked child: nothing is open here, and the lock may be held by a thread that is not."""
        if self._open is not None:
            _inherited.append(self._open)  # to close it here would harm the parent
        self._lock, self._open, self._pid = threading.Lock(), None, os.getpid()

    def let_go(self) -> None:
        """Close the file until it is needed again; under the lock."""
        database, self._open = self._open, None
        if database is not None and self._pid == os.getpid():
            database.close()
            _open_files.pop(self._path, None)

    def add(self, producer: bytes, sequence: int, page: Sequence[Outgoing]) -> None:
        """Keep *page*, to be sent under the given identity.

        Raises:
            SpoolFullError: no room; nothing was kept.
        """
        body = serialization.dumps(
            [(m.keys.queue, m.level, _absolute(m.due), m.unique_id, m.data, m.ordering_key) for m in page]
        )
        with self._turn() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                (held,) = database.execute("SELECT coalesce(sum(messages), 0) FROM page").fetchone()
                if held + len(page) > self._limit:
                    raise SpoolFullError(f"Redis cannot be reached and the spool is full ({held} messages)")
                database.execute(
                    "INSERT INTO page (producer, sequence, messages, body) VALUES (?, ?, ?, ?)",
                    (producer, sequence, len(page), body),
                )
                database.execute("COMMIT")
            except BaseException:
                database.execute("ROLLBACK")
                raise

    def first(self) -> tuple[int, bytes, int, list[Any]] | None:
        """The oldest page: row id, producer, sequence, messages as plain data; None when the spool is empty."""
        with self._turn() as database:
            row = database.execute("SELECT id, producer, sequence, body FROM page ORDER BY id LIMIT 1").fetchone()
        return None if row is None else (row[0], row[1], row[2], serialization.loads(row[3]))

    def remove(self, row: int) -> None:
        """Forget a page that was sent."""
        with self._turn() as database:
            database.execute("DELETE FROM page WHERE id = ?", (row,))

    def __len__(self) -> int:
        with self._turn() as database:
            return int(database.execute("SELECT coalesce(sum(messages), 0) FROM page").fetchone()[0])

    def close(self) -> None:
        """Close the file; it opens again when needed."""
        with self._lock:
            self.let_go()


_spools: weakref.WeakSet[Spool] = weakref.WeakSet()
_open_files: dict[Path, int] = {}
"""Which process has opened a file. SQLite's locks are those of a process: a forked one must not go on with them."""
_inherited: list[object] = []
_held: list[Spool] = []


def _before_fork() -> None:
    # nothing may be open then: a child would take its parent's locks for its own, or wait for a transaction of a
    # thread that it does not have
    found = list(_spools)
    for spool in found:
        spool._lock.acquire()
        spool.let_go()
    _held[:] = found


def _after_fork() -> None:
    for spool in _held:
        spool._lock.release()
    _held.clear()


def _in_child() -> None:
    _held.clear()
    for spool in _spools:
        spool.begin_in_child()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)


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
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def busy(self) -> bool:
        """Whether pages wait: then new messages must queue behind them."""
        if self._pid != os.getpid():
            self._begin()  # the thread is the parent's
        return self._thread is not None

    def start(self) -> None:
        """Begin to empty the spool, if that is not under way."""
        if self.busy:
            return
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="taskq-spool", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread; what is left waits on disk."""
        if not self.busy:
            self._stop.set()
            return
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                page = self._spool.first()
                if page is None:
                    if self._ended():
                        return
                    continue
            except Exception:  # a page that cannot be read, a disk that fails: what waits stays, and is tried again
                logger.exception("the spool cannot be read")
                self._stop.wait(LOOK_AGAIN)
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
            except Exception:  # as above
                logger.exception("%d messages stay in the spool", len(messages))
                self._stop.wait(LOOK_AGAIN)
            else:
                if failpoints.ARMED:
                    failpoints.hit("spool.sent")
                self._spool.remove(row)
                if failpoints.ARMED:
                    failpoints.hit("spool.removed")
        self._thread = None

    def _ended(self) -> bool:
        """Whether the spool is empty; then it is closed, and the next page starts a thread anew."""
        with self._lock:
            if len(self._spool):  # under the lock: a page added now finds the thread gone, and starts one
                return False
            self._thread = None
            self._spool.close()
            return True

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
