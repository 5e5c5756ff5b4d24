"""The app under chaos: tasks that write history from their first to their last line and return their run.

Settings come from the environment: ``CHAOS_HISTORY`` (folder), ``CHAOS_MUTANT`` (see ``mutants.py``), and taskq's own.
"""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import random
import secrets
import signal
import time
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from taskq import Batch, BatchItem, TaskQ, every
from taskq.client.context import current_task

from .history import NOBODY, TICKS, Expect, Kind, Writer

TICK_SECONDS = 0.5

app = TaskQ("chaos", task_default_queue="chaos")


class Plan(NamedTuple):
    """How one task number is sent."""

    name: str
    expect: Expect = Expect.SUCCESS
    attempts: int = 1
    priority: int = 5
    countdown: float = 0.0
    sleep: float = 0.0


def plan(seed: int, number: int) -> Plan:
    """The plan of a task number: always the same for the same seed."""
    draw = random.Random(f"{seed}/{number}")
    priority = draw.choices((5, 9, 1), (84, 8, 8))[0]
    countdown = round(draw.uniform(0.05, 3.0), 3) if draw.random() < 0.06 else 0.0
    sleep = round(draw.choices((0, draw.uniform(0.002, 0.02), draw.uniform(0.1, 0.5)), (87, 10, 3))[0], 4)
    name = draw.choices(("work", "awork", "flaky", "doomed"), (70, 23, 6, 1))[0]
    expect = Expect.FAILURE if name == "doomed" else Expect.SUCCESS
    return Plan(name, expect, 2 if name in ("flaky", "doomed") else 1, priority, countdown, sleep)


def check_of(number: int) -> int:
    """The second argument of every task: what a corrupted or invented message would not know."""
    return zlib.crc32(number.to_bytes(8))


_writer: Writer | None = None


GO = "go"
"""The file whose presence ends ``told``."""


def writer() -> Writer:
    """The history file of this process (a forked child opens its own)."""
    global _writer
    if _writer is None or _writer._pid != os.getpid():
        _writer = Writer(Path(os.environ["CHAOS_HISTORY"]) / f"process-{os.getpid()}-{secrets.token_hex(3)}.hist")
    return _writer


def _owner() -> int:
    parent = multiprocessing.parent_process()
    return parent.pid or 0 if parent is not None else os.getpid()


class _Run:
    """The history of one run of a task."""

    def __init__(self, number: int, check: int, attempt: int = 0) -> None:
        self.number = number
        self.run = secrets.randbits(62) + 1
        self.attempt = attempt or current_task().attempt
        self._write(Kind.BEGIN, int(check != check_of(number)))

    def end(self) -> int:
        """The task is about to return this run's number."""
        self._write(Kind.END, 0)
        return self.run

    def fail(self) -> RuntimeError:
        """The task is about to raise."""
        self._write(Kind.END, 1)
        return RuntimeError(f"run {self.run} fails on purpose")

    def _write(self, kind: Kind, flag: int) -> None:
        writer().write(kind, self.number, flag=flag, attempt=self.attempt, owner=_owner(), run=self.run)


@app.task(name="work")
def work(number: int, check: int, sleep: float = 0.0) -> int:
    """An ordinary task."""
    run = _Run(number, check)
    if sleep:
        time.sleep(sleep)
    return run.end()


@app.task(name="told")
def told(number: int, check: int, sleep: float = 0.0) -> int:
    """Ends when the scenario says so."""
    run = _Run(number, check)
    while not (Path(os.environ["CHAOS_HISTORY"]) / GO).exists():
        time.sleep(0.01)
    return run.end()


@app.task(name="awork")
async def awork(number: int, check: int, sleep: float = 0.0) -> int:
    """An async task."""
    run = _Run(number, check)
    if sleep:
        await asyncio.sleep(sleep)
    return run.end()


@app.task(name="flaky", max_retries=1, retry_backoff=0.05)
def flaky(number: int, check: int, sleep: float = 0.0) -> int:
    """Fails at its first attempt."""
    run = _Run(number, check)
    if sleep:
        time.sleep(sleep)
    if run.attempt == 1:
        raise run.fail()
    return run.end()


@app.task(name="doomed", max_retries=1, retry_backoff=0.05)
def doomed(number: int, check: int, sleep: float = 0.0) -> int:
    """Fails at every attempt, and ends in the dead letter queue."""
    raise _Run(number, check).fail()


@app.task(name="bulk", batch=Batch(size=3, wait=0.05))
def bulk(items: list[BatchItem]) -> list[int]:
    """Calls that run together."""
    runs = [_Run(*item.args[:2], attempt=item.attempt) for item in items]
    return [run.end() for run in runs]


@app.task(name="limited", rate_limit="4/200ms")
def limited(number: int, check: int, sleep: float = 0.0) -> int:
    """Waits for a permit."""
    return _Run(number, check).end()


@app.task(name="poison")
def poison(number: int, check: int, sleep: float = 0.0) -> int:
    """Kills the process that runs it, in one of three ways."""
    _Run(number, check)
    (_exit, _segfault, _exhaust_memory)[number % 3]()


def _exit() -> None:
    os._exit(3)


def _segfault() -> None:
    ctypes.string_at(0)


def _exhaust_memory() -> None:
    """Join the memory cgroup, if there is one, and allocate until the kernel's killer comes; else do as it does."""
    if group := os.environ.get("CHAOS_CGROUP"):
        Path(group, "cgroup.procs").write_text(str(os.getpid()))
        hoard = []
        for _ in range(256):
            hoard.append(bytearray(os.urandom(1 << 20)))
    os.kill(os.getpid(), signal.SIGKILL)


if os.environ.get("CHAOS_RELEASE") != "old":

    @app.task(name="newcomer")
    def newcomer(number: int, check: int, sleep: float = 0.0) -> int:
        """A task that a worker of the release before does not know."""
        return _Run(number, check).end()


@app.periodic(every(TICK_SECONDS), catch_up="all", name="tick")
@app.task(name="tick")
def tick() -> int:
    """One fire time."""
    number = fire_time(current_task().id)
    return _Run(number, check_of(number)).end()


def fire_time(task_id: str) -> int:
    """The task number of a fire time, from its task id."""
    instant = datetime.fromisoformat(task_id.partition("@")[2].removesuffix("Z")).replace(tzinfo=UTC)
    return TICKS + round(instant.timestamp() * 1000)


app.hooks.listen("lease_lost", lambda queue: writer().write(Kind.LEASE_LOST, NOBODY))

if os.environ.get("CHAOS_MUTANT"):
    from .mutants import apply

    apply(os.environ["CHAOS_MUTANT"])
