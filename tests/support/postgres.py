"""A PostgreSQL server of the test run's own: a free port, a temporary directory, a user that is not root."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.programs import missing, require
from support.wait import eventually

_DEBIAN = Path("/usr/lib/postgresql")
_USERS = ("postgres", "nobody")
"""Who may run it when we are root, which it refuses."""


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a server; gives its URL without a database, as SQLAlchemy writes it for psycopg."""
    binaries, user = _binaries(), _user()
    # short: the path of a Unix socket has at most 107 bytes
    directory = Path(tempfile.mkdtemp(prefix="taskq-pg-"))
    try:
        if user is not None:
            shutil.chown(directory, user)
        data = directory / "data"
        _run(
            [binaries / "initdb", "-D", data, "-U", "taskq", "-A", "trust", "-E", "UTF8", "--no-sync"], user, directory
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [
            *(binaries / "postgres", "-D", data, "-p", str(port), "-k", directory),
            *("-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=50"),
        ]
        with (directory / "log").open("wb") as log:
            server = subprocess.Popen(command, user=user, cwd=directory, stdout=log, stderr=log, env=_environment())
        try:
            eventually(lambda: _answers(port) or server.poll() is not None, 30)
            assert server.poll() is None, (directory / "log").read_text()
            yield f"postgresql+psycopg://taskq@127.0.0.1:{port}"
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _binaries() -> Path:
    """The directory of initdb and postgres; Debian does not put it on PATH."""
    versions = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]), reverse=True)
    if versions:
        return versions[0].parent
    return require("initdb").resolve().parent


def _user() -> str | None:
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((user for user in _USERS if user in known), None) or missing("no user for PostgreSQL but root")


def _run(command: list[object], user: str | None, directory: Path) -> None:
    done = subprocess.run(
        [str(word) for word in command],
        user=user,
        cwd=directory,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def _environment() -> dict[str, str]:
    """Without PGHOST, PGDATA and the like of the machine."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _answers(port: int) -> bool:
    import psycopg

    try:
        psycopg.connect(f"host=127.0.0.1 port={port} user=taskq dbname=postgres", connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
