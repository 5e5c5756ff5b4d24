"""This worker's record: what it is, what it runs, what it weighs; see :mod:`taskq.broker.views.workers`."""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import time
from collections import Counter
from collections.abc import Sequence

from taskq.broker.views.workers import MOST_RUNNING, Running, WorkerRecord
from taskq.client.app import TaskQ
from taskq.values.delivery import Delivery
from taskq.worker.partition.partition import QueueLink
from taskq.worker.running.executors import Executor
from taskq.worker.running.executors.processes import ProcessExecutor


def describe(
    app: TaskQ,
    pool: str,
    links: Sequence[QueueLink],
    started_at: float,
    executors: Sequence[Executor],
    counted: tuple[int, int],
) -> WorkerRecord:
    """The record as of now; may be called from any thread.

    Args:
        app: whose worker this is.
        pool: where sync tasks run.
        links: the queues.
        started_at: epoch seconds.
        executors: for sync tasks, for async ones, and others.
        counted: deliveries that left their queue since the start, and those of them that failed.
    """
    from taskq import __version__

    kinds = {task.is_async for task in app.tasks.values() if not task.name.startswith("taskq.")}
    ordinary, coroutines, *_ = executors
    running = [delivery for executor in executors for delivery in executor.running()]
    pids = [pid for executor in executors if isinstance(executor, ProcessExecutor) for pid in executor.pids()]
    return WorkerRecord(
        app=app.name,
        host=socket.gethostname(),
        pid=os.getpid(),
        version=__version__,
        python=platform.python_version(),
        pool=pool,
        queues=[link.queue for link in links],
        started_at=round(started_at * 1000),
        written_at=round(time.time() * 1000),
        lease_ms=round(app.config.lease_timeout * 1000),
        slots=ordinary.slots if False in kinds else 0,
        async_slots=coroutines.slots if True in kinds else 0,
        busy=len(running),
        busy_by_queue=dict(Counter(delivery.link.queue for delivery in running)),
        held=sum(len(link.held) for link in links),
        rss=resident_bytes([os.getpid(), *pids]),
        processed=counted[0],
        failed=counted[1],
        running=[_run(delivery) for delivery in running[:MOST_RUNNING]],
    )


def _run(delivery: Delivery) -> Running:
    started = time.time() - (time.monotonic() - delivery.started) if delivery.started else time.time()
    message = delivery.message
    return Running(message.task, message.task_id, delivery.link.queue, round(started * 1000), delivery.attempt)


def resident_bytes(pids: Sequence[int]) -> int:
    """Memory of these processes that is in RAM, in bytes; 0 where /proc does not tell."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/statm", "rb") as file:
            pages += int(file.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
