"""A worker that was told to stop is gone soon after its timeout, whatever its tasks do; its messages run elsewhere."""

from __future__ import annotations

import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from support.process import Proc
from support.wait import eventually, wait_for_line

from taskq import TaskQ
from taskq.errors import ExitCode

pytestmark = pytest.mark.slow

FOR_EVER = 3600
"""Longer than any test waits for a process."""
APP = f"""
import asyncio, time
from taskq import TaskQ

app = TaskQ("blocked")

@app.task
async def thread():
    print("begun", flush=True)
    await asyncio.to_thread(time.sleep, {FOR_EVER})

@app.task
async def swallow():
    print("begun", flush=True)
    while True:
        try:
            await asyncio.sleep({FOR_EVER})
        except asyncio.CancelledError:
            pass

@app.task
async def block():
    print("begun", flush=True)
    time.sleep({FOR_EVER})

@app.task
async def generate():
    async def endless():
        try:
            yield 1
        finally:
            await asyncio.sleep({FOR_EVER})
    async for _ in endless():
        print("begun", flush=True)
        await asyncio.sleep({FOR_EVER})

@app.task
def sleep():
    print("begun", flush=True)
    time.sleep({FOR_EVER})
"""


@pytest.mark.parametrize(
    ("task", "flags"),
    [
        ("thread", ()),
        ("swallow", ()),
        ("block", ()),
        ("block", ("-w", "2", "--health-port", "0")),
        ("generate", ()),
        ("sleep", ()),
        ("sleep", ("-P", "solo")),
        ("sleep", ("-P", "processes", "-c", "1")),
    ],
)
def test_nothing_that_a_task_does_outlives_the_shutdown_timeout(
    tmp_path: Path,
    spawn: Callable[..., Proc],
    redis_url: str,
    namespace: str,
    app: TaskQ,
    task: str,
    flags: tuple[str, ...],
) -> None:
    (tmp_path / "blocked.py").write_text(APP)
    environment = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace}
    worker = spawn("-m", "taskq", "worker", "-A", "blocked:app", "--shutdown-timeout", "0.5", *flags, env=environment)
    wait_for_line(worker, r"\(Redis")
    if "-w" in flags:  # what holds messages is told by its supervisor alone, and not by a signal too
        ready = wait_for_line(worker, r"health on (http://127\.0\.0\.1:\d+)")[1] + "/ready"
        eventually(lambda: _answers(ready))
    result = app.send_task(f"blocked.{task}")
    wait_for_line(worker, "begun")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == ExitCode.OK, worker.output()
    assert "again in" not in worker.output(), "it was handed back, not failed"
    eventually(lambda: app.queues()[0].lag == 1)  # not charged: no lease has to run out
    assert result.revoke()
    app.purge("default")


def _answers(url: str) -> bool:
    """Whether *url* answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=30):
            return True
    except urllib.error.HTTPError:
        return False
