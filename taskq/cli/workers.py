"""``taskq workers``: who works, on what, and since when."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from taskq.cli.output import age, print_table, size
from taskq.cli.session import json_option, passing_app
from taskq.cli.watching import show, watch_option

if TYPE_CHECKING:
    from taskq.broker.views.workers import WorkerInfo
    from taskq.client.app import TaskQ

_NUMBERS = ("pid", "busy", "held", "done", "failed", "memory", "up", "heartbeat")


@click.command()
@passing_app
@click.option("--running", is_flag=True, help="Show each running task on a line of its own.")
@json_option
@watch_option
def workers(app: TaskQ, running: bool, as_json: bool, watch: float | None) -> None:
    """List workers: host, running tasks, memory.

    \b
    taskq workers -b redis://localhost:6379/0
    taskq workers --running --watch

    busy: running tasks of all slots. held: fetched and not settled. heartbeat: since the last renewal of its lease.
    state: late workers have let a lease run out; their messages go to others.
    """
    from taskq.broker.views.workers import read_workers

    def read() -> list[WorkerInfo]:
        return read_workers(app.sync_broker.pipeline, app.keys, app.known_queues())

    show(read, _print_running if running else _print, _fields if as_json else None, watch)


def _print(found: list[WorkerInfo]) -> None:
    columns = ["host", "pid", "version", "queues", "pool", *_NUMBERS[1:], "state"]
    spare = ("version", "pool", "started", "failed", "processed", "held")
    print_table(columns, [_row(worker) for worker in found], numbers=_NUMBERS, spare=spare)


def _row(worker: WorkerInfo) -> list[object]:
    state, record = "" if worker.alive else "late", worker.record
    host, _, rest = worker.name.partition(":")
    if record is None:
        return [host, rest.partition(":")[0], "-", ", ".join(worker.queues), *["-"] * 8, state]
    return [
        record.host,
        record.pid,
        record.version,
        ", ".join(worker.queues),
        record.pool,
        f"{record.busy}/{record.slots + record.async_slots}",
        record.held,
        record.processed,
        record.failed,
        size(record.rss),
        age(max(time.time() - record.started_at / 1000, 0)),
        age(worker.heartbeat_age),
        state,
    ]


def _print_running(found: list[WorkerInfo]) -> None:
    rows = [
        [worker.name, run.task, run.id, run.queue, run.attempt, age(max(time.time() - run.started_at / 1000, 0))]
        for worker in found
        for run in (worker.record.running if worker.record else ())
    ]
    print_table(
        ["worker", "task", "task id", "queue", "attempt", "for"],
        rows,
        numbers=("attempt", "for"),
        spare=("worker", "queue"),
        whole=("task id",),
    )


def _fields(found: list[WorkerInfo]) -> list[dict[str, Any]]:
    import msgspec

    return [
        {
            "name": worker.name,
            "queues": worker.queues,
            "alive": worker.alive,
            "lease_left": worker.lease_left,
            "heartbeat_age": worker.heartbeat_age,
            **({} if worker.record is None else _record(msgspec.to_builtins(worker.record, str_keys=True), worker)),
        }
        for worker in found
    ]


def _record(values: dict[str, Any], worker: WorkerInfo) -> dict[str, Any]:
    """The record's own fields; it leaves out what is 0."""
    record = worker.record
    assert record is not None
    filled = {name: getattr(record, name) for name in record.__struct_fields__ if name not in ("queues", "running")}
    return {**filled, "running": values.get("running", [])}
