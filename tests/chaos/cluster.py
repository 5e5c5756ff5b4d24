"""The system under chaos: a Redis, a fault proxy in front of it, and taskq's processes, started again when they die."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.keys import leaked_keys
from support.process import ROOT, Proc
from support.proxy import FaultProxy

from taskq.embedded import EmbeddedRedis

from . import commits
from .checker import Facts
from .commits import Commit
from .history import FaultLog, read_sorted
from .workload import TICK_SECONDS, fire_time

NAMESPACE = "chaos"
QUEUE = "chaos"
_TASKQ = ("-m", "taskq")
_STALL = 0.3
"""Seconds by which our own sleep may be late before it counts as a fault: then the machine stood still."""


class Cluster:
    """Everything of one run, in one folder: Redis's data, history, faults, output of every process.

    A context manager.

    Args:
        folder: an empty directory.
        lease: ``lease_timeout`` of the workers.
        appendfsync: of Redis.
        mutant: the broken variant that its processes are, empty for none.
        proxied: whether the processes reach Redis through the fault proxy.
        server_args: more command-line options for Redis.
    """

    def __init__(
        self,
        folder: Path,
        *,
        lease: float,
        appendfsync: str = "everysec",
        mutant: str = "",
        proxied: bool = True,
        server_args: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self.lease = lease
        self.history = folder / "history"
        self.history.mkdir(parents=True)
        self.log = FaultLog(folder / "faults.jsonl")
        self.server = EmbeddedRedis(
            folder / "redis",
            appendfsync=appendfsync,
            # never rewritten: the checker reads every commit in it
            extra_args=("--auto-aof-rewrite-percentage", "0", "--save", "", *server_args),
            start_timeout=120,  # which a long run therefore may need for a restart
        )
        self.mutant = mutant
        self._proxied = proxied
        self.proxy: FaultProxy | None = None
        self._started: list[Proc] = []
        self._closing = contextlib.ExitStack()
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        self._closing.enter_context(self.server)
        if self._proxied:
            self.proxy = self._closing.enter_context(FaultProxy(self.server.url))
        self.client = self._connect(10)
        self.operator = self._connect(1)
        """For faults that are commands: a Redis that does not answer must not hold up the next fault's heal."""
        threading.Thread(target=self._watch_the_machine, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        for process in self._started:
            process.close()
        self._closing.close()
        self.log.close()

    def _connect(self, timeout: float) -> Any:
        client = redis.Redis.from_url(self.server.url, retry=Retry(NoBackoff(), 0), socket_timeout=timeout, protocol=2)
        return self._closing.enter_context(client)

    @property
    def url(self) -> str:
        """Where the processes find Redis."""
        return self.proxy.url if self.proxy is not None else self.server.url

    def environment(self) -> dict[str, str]:
        """What every process needs."""
        return {
            "TASKQ_BROKER_URL": self.url,
            "TASKQ_NAMESPACE": NAMESPACE,
            "TASKQ_LEASE_TIMEOUT": str(self.lease),
            "CHAOS_HISTORY": str(self.history),
            "CHAOS_MUTANT": self.mutant,
        }

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> Proc:
        """Start a Python process with ``chaos`` on its path."""
        output = self.folder / f"output-{len(self._started)}.txt"
        process = Proc(arguments, output, ROOT / "tests", self.environment() | dict(env or {}))
        self._started.append(process)
        return process

    def worker(self, *flags: str, env: Mapping[str, str] | None = None) -> Proc:
        """Start a worker."""
        arguments = ("worker", "-A", "chaos.workload:app", "-Q", QUEUE, "--shutdown-timeout", "10", *flags)
        return self.start(*_TASKQ, *arguments, env=env)

    def beat(self, env: Mapping[str, str] | None = None) -> Proc:
        """Start a beat."""
        return self.start(*_TASKQ, "beat", "-A", "chaos.workload:app", env=env)

    def producer(self, first: int, last: int, rate: float, seed: int, env: Mapping[str, str] | None = None) -> Proc:
        """Start a producer of these task numbers, or start it again after its end."""
        path = self.history / f"producer-{first}.hist"
        return self.start("-m", "chaos.producer", str(first), str(last), str(rate), str(seed), str(path), env=env)

    def kill(self, process: Proc, kind: str = "kill worker") -> None:
        """SIGKILL, and note it."""
        begin = time.monotonic_ns()
        process.kill()
        self.log.add(kind, begin, pid=process.pid)

    @contextlib.contextmanager
    def paused(self, process: Proc) -> Iterator[None]:
        """SIGSTOP for the length of the block."""
        begin = time.monotonic_ns()
        process.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.resume(process, begin)

    def resume(self, process: Proc, begin: int) -> None:
        """SIGCONT, and note the pause that began at *begin*."""
        with contextlib.suppress(ProcessLookupError):
            process.signal(signal.SIGCONT)
        self.log.add("pause worker", begin, pid=process.pid)

    def backlog(self) -> dict[str, int]:
        """What is not at rest: messages that wait or are pending, and leases of processes that are gone."""
        prefix = f"{NAMESPACE}:{{{QUEUE}}}:"
        streams = [f"stream:{level}" for level in ("front", *range(10))]
        look = self.client.pipeline(transaction=True)
        for name in streams:
            look.xlen(prefix + name)
        look.zcard(prefix + "delayed")
        look.llen(prefix + "parked:limited")
        look.zrange(prefix + "consumers", 0, -1)
        *counts, consumers = look.execute()
        gone = [name for name in consumers if not _lives(int(name.split(b":")[1]))]
        found = dict(zip((*streams, "delayed", "parked", "dead leases"), (*counts, len(gone)), strict=True))
        return {name: count for name, count in found.items() if count}

    def drain(self, timeout: float, tend: Callable[[], object] = lambda: None) -> str:
        """Wait until nothing waits or is pending; what is left after *timeout* seconds, empty for nothing."""
        limit = time.monotonic() + timeout
        while True:
            left = self.backlog()
            if not left:
                return ""
            if time.monotonic() > limit:
                return f"not settled within {timeout:g} s: {left}"
            tend()
            time.sleep(0.02)

    def stop(self, processes: list[Proc], timeout: float = 20) -> None:
        """SIGTERM to all, and wait; one that does not end is killed."""
        for process in processes:
            if process.running():
                process.signal(signal.SIGCONT)
                process.signal(signal.SIGTERM)
        limit = time.monotonic() + timeout
        while any(process.running() for process in processes) and time.monotonic() < limit:
            time.sleep(0.01)
        for process in processes:
            process.close()

    def held(self) -> dict[str, Commit]:
        """Every outcome that Redis holds now."""
        found: dict[str, Commit] = {}
        keys = list(self.client.scan_iter(match=f"{NAMESPACE}:{{*}}:result:*", count=5000))
        for at in range(0, len(keys), 1000):
            page = keys[at : at + 1000]
            values: list[Any] = self.client.mget(page)
            for key, value in zip(page, values, strict=True):
                if value is not None:
                    found[key.decode().rpartition(":result:")[2]] = commits.commit(value)
        return found

    def facts(self, stuck: str = "") -> Facts:
        """Read everything, after the processes have ended."""
        return Facts(
            packed=read_sorted(self.history),
            faults=self.log.faults,
            log=commits.read(self.server.directory, NAMESPACE),
            held=self.held(),
            left_behind=leaked_keys(self.client, NAMESPACE),
            stuck=stuck,
            lease=self.lease,
            tick_ms=round(TICK_SECONDS * 1000),
            number_of=number_of,
        )

    def _watch_the_machine(self) -> None:
        """A machine that stands still costs leases: not taskq's doing, so it is noted like any other fault."""
        while not self._closed.is_set():
            begin = time.monotonic_ns()
            time.sleep(0.05)
            if time.monotonic_ns() - begin > _STALL * 1e9:
                self.log.add("stall", begin)


def number_of(name: str, task_id: str, first: int) -> int:
    """The task number of a message."""
    return fire_time(task_id) if name == "tick" else first


def children_of(pid: int) -> list[int]:
    """The pool children of a worker: they are forked by its fork server, which is a child of the worker."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            number = int(entry.name)
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if _parent_of(parent) == pid and os.getpgid(number):
                found.append(number)
    return found


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
