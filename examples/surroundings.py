"""What the examples run in, so that each of them starts with one command. Not part of what they show."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from taskq import TaskQ
from taskq.embedded import EmbeddedRedis

HERE = Path(__file__).parent


@contextmanager
def worker_for(app: TaskQ, path: str, *flags: str, folder: Path = HERE) -> Iterator[None]:
    """``taskq worker -A path`` in *folder* while the block runs, on ``TASKQ_BROKER_URL`` or else a Redis of its own."""
    with ExitStack() as stack:
        if "TASKQ_BROKER_URL" not in os.environ:
            server = stack.enter_context(EmbeddedRedis())
            os.environ["TASKQ_BROKER_URL"] = server.url
            app.reconfigure(broker_url=server.url)
        stack.callback(app.close)
        command = [sys.executable, "-m", "taskq", "worker", "-A", path, "-l", "error", *flags]
        worker = subprocess.Popen(command, cwd=folder)
        stack.callback(worker.wait)
        stack.callback(worker.terminate)
        yield


def wait_until(done: Callable[[], bool], what: str) -> None:
    """Wait for what the story tells next; it ends the program after 100 seconds."""
    limit = time.monotonic() + 100
    while not done():
        if time.monotonic() > limit:
            sys.exit(f"gave up waiting for {what}")
        time.sleep(0.1)
