"""The demo's results: a SQLite file that tasks of all processes write to."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from taskq.demo.source import Counts

WORKSPACE = "TASKQ_DEMO_DIR"
"""Names the demo's directory in the environment of its processes."""

_SCHEMA = """
CREATE TABLE files (
    path TEXT PRIMARY KEY, package TEXT, lines INTEGER, functions INTEGER, classes INTEGER, imports INTEGER
);
CREATE TABLE summary (
    package TEXT PRIMARY KEY, files INTEGER, lines INTEGER, functions INTEGER, classes INTEGER, imports INTEGER
);
CREATE TABLE runs (count INTEGER);
INSERT INTO runs VALUES (0);
"""
_SUMMARISE = """
INSERT INTO summary
SELECT package, count(*), sum(lines), sum(functions), sum(classes), sum(imports) FROM files GROUP BY package
"""
_BUSY_SECONDS = 30.0


class PackageRow(NamedTuple):
    """One package in the summary."""

    package: str
    files: int
    lines: int
    functions: int
    classes: int
    imports: int


class Table:
    """The rows of one demo run.

    Args:
        workspace: the directory of the file; :meth:`create` makes it.
    """

    def __init__(self, workspace: Path) -> None:
        self._file = workspace / "results.sqlite3"

    def create(self) -> None:
        """Make the file."""
        with self._open() as db:
            db.execute("PRAGMA journal_mode = WAL")  # readers and a writer at the same time
            db.executescript(_SCHEMA)

    def put(self, path: str, package: str, counts: Counts) -> None:
        """Write the row of one file; a second time changes nothing, so the task may run twice."""
        with self._open() as db:
            db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", (path, package, *counts))

    def summarise(self) -> int:
        """Sum up the files by package, in place of the last summary; returns how many files."""
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM summary")
            db.execute(_SUMMARISE)
            db.execute("UPDATE runs SET count = count + 1")
            return int(db.execute("SELECT coalesce(sum(files), 0) FROM summary").fetchone()[0])

    def rows(self) -> int:
        """How many files have a row."""
        with self._open() as db:
            return int(db.execute("SELECT count(*) FROM files").fetchone()[0])

    def runs(self) -> int:
        """How often the summary was written."""
        with self._open() as db:
            return int(db.execute("SELECT count FROM runs").fetchone()[0])

    def summary(self) -> list[PackageRow]:
        """The last summary, the longest package first."""
        with self._open() as db:
            return [PackageRow(*row) for row in db.execute("SELECT * FROM summary ORDER BY lines DESC, package")]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection of this thread, with everything done on it committed at the end."""
        db = sqlite3.connect(self._file, timeout=_BUSY_SECONDS)
        try:
            db.execute("PRAGMA synchronous = OFF")  # the file is thrown away after the demo
            with db:
                yield db
        finally:
            db.close()
