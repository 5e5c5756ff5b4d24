"""The measurements: sending, running, and the way there and back."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from taskq.bench.app import app as bench_app
from taskq.bench.app import echo, nothing
from taskq.client.app import TaskQ
from taskq.errors import TaskqError

START_WITHIN = 20.0
"""Seconds in which the worker must start."""
STALLED = 30.0
"""Seconds without progress after which the measurement gives up."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured."""

    round_trip_ms: float
    """Median of one PING."""
    sent_single: float
    """Messages per second, one ``.delay()`` at a time."""
    sent_bulk: float
    """Messages per second with ``.delay_many()``."""
    ran: float
    """No-op tasks per second through one worker process."""
    latency_p50_ms: float
    """From ``.delay()`` to the result, one at a time."""
    latency_p99_ms: float


def scratch_namespace() -> str:
    """A namespace that nobody else has."""
    return f"taskq-bench-{secrets.token_hex(4)}"


def run(broker_url: str, namespace: str, messages: int, round_trips: int) -> Figures:
    """Measure; nothing stays behind.

    Args:
        broker_url: of the Redis.
        namespace: from :func:`scratch_namespace`.
        messages: how many to send in bulk and run.
        round_trips: how many results to wait for, one after the other.

    Raises:
        TaskqError: the worker did not start, or made no progress.
        BrokerError: Redis could not be reached.
    """
    bench_app.reconfigure(broker_url=broker_url, namespace=namespace)
    with contextlib.closing(bench_app), _removed(bench_app):
        pings = _timed(round_trips, lambda: bench_app.sync_broker.execute("PING"))
        bench_app.pause("default")
        singles = max(messages // 20, 1)
        begun = time.perf_counter()
        for _ in range(singles):
            nothing.delay()
        single = singles / (time.perf_counter() - begun)
        bulk_size = messages - singles
        begun = time.perf_counter()
        nothing.delay_many([()] * bulk_size)
        bulk = bulk_size / (time.perf_counter() - begun)
        with _worker(broker_url, namespace):
            _await_worker(bench_app)
            begun = time.perf_counter()
            bench_app.resume("default")
            _drain(bench_app)
            ran = messages / (time.perf_counter() - begun)
            echo.delay(0).get(timeout=STALLED)
            trips = _timed(round_trips, lambda: echo.delay(1).get(timeout=STALLED))
        return Figures(_ms(pings, 0.5), single, bulk, ran, _ms(trips, 0.5), _ms(trips, 0.99))


@contextlib.contextmanager
def _removed(app: TaskQ) -> Iterator[None]:
    try:
        yield
    finally:
        remove(app)


def remove(app: TaskQ) -> None:
    """Delete every key of the app's namespace, a page at a time."""
    execute, cursor = app.sync_broker.execute, b"0"
    while True:
        cursor, found = execute("SCAN", cursor, "MATCH", f"{app.keys.namespace}:*", "COUNT", 1000)
        if found:
            execute("UNLINK", *found)
        if cursor == b"0":
            return


@contextlib.contextmanager
def _worker(broker_url: str, namespace: str) -> Iterator[None]:
    # by the environment: the command line is for everybody to read, and the URL may hold a password
    environment = {**os.environ, "TASKQ_BROKER_URL": broker_url, "TASKQ_NAMESPACE": namespace}
    command = [sys.executable, "-m", "taskq", "worker", "-A", "taskq.bench.app:app", "-l", "error"]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)  # noqa: S603 - our own interpreter
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_worker(app: TaskQ) -> None:
    limit = time.monotonic() + START_WITHIN
    while not any(queue.workers for queue in app.queues()):
        if time.monotonic() > limit:
            raise TaskqError(f"the measured worker did not start within {START_WITHIN:g} s")
        time.sleep(0.02)
    time.sleep(0.2)  # it is at rest when the clock starts


def _drain(app: TaskQ) -> None:
    stream, left, moved = app.keys.queue("default").stream(5), -1, time.monotonic()
    while now_left := app.sync_broker.execute("XLEN", stream):
        if now_left != left:
            left, moved = now_left, time.monotonic()
        elif time.monotonic() - moved > STALLED:
            raise TaskqError(f"the measured worker made no progress for {STALLED:g} s")
        time.sleep(0.005)


def _timed(count: int, call: Callable[[], object]) -> list[float]:

    took = []
    for _ in range(count):
        begun = time.perf_counter()
        call()
        took.append(time.perf_counter() - begun)
    return sorted(took)


def _ms(sorted_seconds: list[float], part: float) -> float:
    return sorted_seconds[min(int(len(sorted_seconds) * part), len(sorted_seconds) - 1)] * 1000
