"""The demo's app, as a user would write one.

Redis is where ``TASKQ_BROKER_URL`` says, the table where ``TASKQ_DEMO_DIR`` says.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from taskq import TaskQ, cron
from taskq.demo.source import count
from taskq.demo.table import WORKSPACE, Table

QUEUE = "files"
SMALL = 16_384
"""Bytes. Parsing a smaller file is so short that it may happen on the event loop."""
ATTEMPTS = 3

app = TaskQ("demo")


@app.task(queue=QUEUE, max_retries=ATTEMPTS - 1, retry_backoff=0.5)
def parse_large(path: str, package: str) -> dict[str, int]:
    """Count what is in a large file: a sync function, which runs in a thread of the worker."""
    counts = count(Path(path).read_bytes())
    _table().put(path, package, counts)
    return counts._asdict()


@app.task(queue=QUEUE, max_retries=ATTEMPTS - 1, retry_backoff=0.5)
async def parse_small(path: str, package: str) -> dict[str, int]:
    """Count what is in a small file: an async function, which runs on the worker's event loop."""
    counts = count(await asyncio.to_thread(Path(path).read_bytes))
    await asyncio.to_thread(_table().put, path, package, counts)
    return counts._asdict()


@app.periodic(cron("*/2 * * * * *"), catch_up="none")
@app.task(queue="reports", max_retries=0, ignore_result=True)
def summarise() -> int:
    """Sum up what the other tasks have written, every two seconds."""
    return _table().summarise()


def _table() -> Table:
    return Table(Path(os.environ[WORKSPACE]))
