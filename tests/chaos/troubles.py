"""Redis in trouble of every kind, one after the other: what a worker does meanwhile, and how soon it goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import redis
from support.process import Proc
from support.programs import server_binaries
from support.proxy import FaultProxy
from support.wait import eventually

from .checker import Judgement
from .cluster import NAMESPACE, QUEUE, Cluster
from .history import Kind, read_sorted, unpack
from .scenarios import Stage

_KEY = f"{NAMESPACE}:{{{QUEUE}}}:"
_DEBUG = ("--enable-debug-command", "local")
"""Redis 7 wants to be asked before it obeys DEBUG RELOAD."""
Trouble = Callable[[Cluster], AbstractContextManager[None]]


@dataclass(frozen=True)
class Bearing:
    """How one worker bore one trouble."""

    name: str
    recovery: float
    """Seconds from the heal until a task ended that was sent after it."""
    cpu: float
    """Percent of one CPU meanwhile."""
    lines: float
    """Log lines a second meanwhile."""
    judgement: Judgement

    def row(self) -> str:
        """For the table of the documentation."""
        verdict = self.judgement.verdict.name.lower()
        return f"| {self.name} | {self.recovery:.2f} | {self.cpu:.0f} | {self.lines:.1f} | {verdict} |"


HEADER = "| trouble | goes on after, s | CPU, % | log lines/s | history |\n|---|---:|---:|---:|---|"


def bear(name: str, folder: Path, seconds: float) -> Bearing:
    """Have a worker bear *name* of :data:`TROUBLES` for so many seconds, while two tasks of its end."""
    server_args = _DEBUG if name == "LOADING" and int(server_binaries()[0].version.split(".")[0]) >= 7 else ()
    with Cluster(folder, lease=15.0, appendfsync="always", server_args=server_args) as cluster:
        stage = Stage(cluster)
        worker = stage.worker("-c", "2")
        stage.send(2, sleep=seconds / 2)
        stage.begun(2)
        before, lines = _cpu(worker), worker.output().count("\n")
        with TROUBLES[name](cluster):
            time.sleep(seconds)
            cpu, lines = (_cpu(worker) - before) / seconds, worker.output().count("\n") - lines
        healed = time.monotonic_ns()
        stage.send(1)
        eventually(lambda: _ended(stage, 3), 30, worker.output)
        recovery = (_ended(stage, 3) - healed) / 1e9
        return Bearing(name, recovery, 100 * cpu, lines / seconds, stage.finish())


def _ended(stage: Stage, number: int) -> int:
    """When a task came to its last line; 0 if it did not yet."""
    records = map(unpack, read_sorted(stage.cluster.history))
    return next((record.at for record in records if record.kind == Kind.END and record.task == number), 0)


def _cpu(process: Proc) -> float:
    """Seconds of CPU so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _proxy(cluster: Cluster) -> FaultProxy:
    assert cluster.proxy is not None
    return cluster.proxy


@contextlib.contextmanager
def reset(cluster: Cluster) -> Iterator[None]:
    """Connections are cut, and new ones refused."""
    _proxy(cluster).refuse()
    _proxy(cluster).cut()
    yield
    _proxy(cluster).accept()


@contextlib.contextmanager
def half_open(cluster: Cluster) -> Iterator[None]:
    """Connections stand, and nothing comes through."""
    _proxy(cluster).stall()
    yield
    _proxy(cluster).resume()


@contextlib.contextmanager
def slow(cluster: Cluster) -> Iterator[None]:
    """Everything takes 0.2 s longer in each direction."""
    _proxy(cluster).delay(0.2)
    yield
    _proxy(cluster).delay(0)


@contextlib.contextmanager
def stopped(cluster: Cluster) -> Iterator[None]:
    """SIGSTOP."""
    os.kill(cluster.server.pid, signal.SIGSTOP)
    yield
    os.kill(cluster.server.pid, signal.SIGCONT)


@contextlib.contextmanager
def restarted(cluster: Cluster) -> Iterator[None]:
    """Kill -9, and a restart."""
    cluster.server.kill()
    yield
    cluster.server.restart()


@contextlib.contextmanager
def loading(cluster: Cluster) -> Iterator[None]:
    """Redis answers LOADING to everything."""
    count, size, delay = 400, 1024, "50000"
    try:
        cluster.client.config_set("loading-process-events-interval-bytes", "1024")
    except redis.ResponseError:  # Redis 6 answers nobody before it has read two more MiB
        count, size, delay = 16, 2200 * 1024, "500000"
    pad = cluster.client.pipeline(transaction=False)
    for number in range(count):
        pad.set(f"pad:{number}", os.urandom(size), ex=60)
    pad.execute()
    cluster.client.config_set("key-load-delay", delay)
    done = threading.Event()

    def reload() -> None:
        with contextlib.suppress(Exception):  # it may take longer than our client waits
            cluster.client.execute_command("DEBUG", "RELOAD")
        done.set()

    threading.Thread(target=reload, daemon=True).start()
    eventually(lambda: _answers(cluster, "LOADING"))
    yield
    with contextlib.suppress(redis.RedisError):  # Redis 6 takes no settings while it loads, and ends by itself
        cluster.operator.config_set("key-load-delay", "0")
    eventually(done.is_set, 60)


@contextlib.contextmanager
def read_only(cluster: Cluster) -> Iterator[None]:
    """Redis is a replica, as after a failover."""
    cluster.client.replicaof("127.0.0.1", 1)
    yield
    cluster.client.replicaof("NO", "ONE")


@contextlib.contextmanager
def disk_full(cluster: Cluster) -> Iterator[None]:
    """Redis cannot save, and refuses writes (MISCONF)."""
    obstacle = Path(cluster.server.directory, "dump.rdb")
    obstacle.mkdir()
    cluster.client.config_set("save", "3600 1")
    cluster.client.bgsave()
    eventually(lambda: cluster.client.info("persistence")["rdb_last_bgsave_status"] != "ok")
    yield
    obstacle.rmdir()
    cluster.client.bgsave()
    eventually(lambda: cluster.client.info("persistence")["rdb_last_bgsave_status"] == "ok")


@contextlib.contextmanager
def no_memory(cluster: Cluster) -> Iterator[None]:
    """maxmemory is reached."""
    cluster.client.config_set("maxmemory", "1")
    yield
    cluster.client.config_set("maxmemory", "0")


@contextlib.contextmanager
def password(cluster: Cluster) -> Iterator[None]:
    """The password was changed, and connections closed."""
    cluster.client.config_set("requirepass", "another")
    _cut_all(cluster)
    yield
    cluster.client.config_set("requirepass", "")


@contextlib.contextmanager
def wrong_type(cluster: Cluster) -> Iterator[None]:
    """Somebody has written a string where our sorted sets are."""
    names = (_KEY + "delayed", _KEY + "revoked", _KEY + "renewed")
    cluster.client.delete(*names)
    for name in names[:2]:
        cluster.client.set(name, "nonsense")
    cluster.client.rpush(names[2], "nonsense")
    yield
    cluster.client.delete(*names)


@contextlib.contextmanager
def no_leases(cluster: Cluster) -> Iterator[None]:
    """The key with the leases holds something else."""
    lease = cluster.client.dump(_KEY + "consumers")
    cluster.client.set(_KEY + "consumers", "nonsense")
    yield
    cluster.client.restore(_KEY + "consumers", 0, lease, replace=True)


@contextlib.contextmanager
def no_group(cluster: Cluster) -> Iterator[None]:
    """XGROUP DESTROY: the group comes back empty, and what was pending is delivered again."""
    begin = time.monotonic_ns()
    cluster.client.xgroup_destroy(_KEY + "stream:5", "taskq")
    # what was running is nobody's any more, as after a death
    cluster.log.add("died", begin, pid=int(cluster.client.zrange(_KEY + "consumers", 0, 0)[0].split(b":")[1]))
    yield


@contextlib.contextmanager
def no_scripts(cluster: Cluster) -> Iterator[None]:
    """SCRIPT FLUSH."""
    cluster.client.script_flush()
    yield


def _cut_all(cluster: Cluster) -> None:
    cluster.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    cluster.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")


def _answers(cluster: Cluster, word: str) -> bool:
    try:
        cluster.operator.get("any")
    except Exception as error:
        return word in str(error) or "loading" in str(error).lower()
    return False


TROUBLES: dict[str, Trouble] = {
    "connection reset, refused": reset,
    "half-open TCP": half_open,
    "replies 0.4 s late": slow,
    "SIGSTOP": stopped,
    "kill -9 and restart": restarted,
    "LOADING": loading,
    "READONLY": read_only,
    "MISCONF (cannot save)": disk_full,
    "maxmemory, noeviction": no_memory,
    "password changed": password,
    "wrong type under delayed, revoked, renewed": wrong_type,
    "wrong type under consumers": no_leases,
    "XGROUP DESTROY": no_group,
    "SCRIPT FLUSH": no_scripts,
}


def play(folder: Path, seconds: float) -> Iterator[Bearing]:
    """All of them."""
    for number, name in enumerate(TROUBLES):
        yield bear(name, folder / str(number), seconds)
