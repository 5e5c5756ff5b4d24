"""``taskq queues``: what waits where."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from taskq.cli.output import print_json, print_table
from taskq.cli.session import app_options, open_app, reporting_errors

if TYPE_CHECKING:
    from taskq.broker.inspect import QueueStats

_NUMBERS = ("lag", "pending", "delayed", "dead", "oldest", "workers")


@click.command()
@app_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array instead of a table.")
@reporting_errors()
def queues(app_path: str | None, broker_url: str | None, namespace: str | None, as_json: bool) -> None:
    """Show every queue: what waits, what runs, what failed for good.

    lag: not yet delivered to a worker. pending: delivered, not settled. delayed: not due yet. dead: in the dead
    letter queue. oldest: age of the oldest message not yet delivered. workers: those with a live lease.
    """
    app = open_app(app_path, broker_url, namespace)
    from taskq.broker.inspect import queue_stats

    execute = app.sync_broker.execute
    stats = [queue_stats(execute, app.keys.queue(name)) for name in app.known_queues()]
    if as_json:
        print_json([{**dataclasses.asdict(queue), "backlog": queue.backlog} for queue in stats])
    else:
        print_table(["queue", *_NUMBERS], [_row(queue) for queue in stats], numbers=_NUMBERS)


def _row(queue: QueueStats) -> list[object]:
    oldest = "-" if queue.oldest_age is None else _age(queue.oldest_age)
    return [queue.queue, queue.lag, queue.pending, queue.delayed, queue.dead, oldest, queue.workers]


def _age(seconds: float) -> str:
    """``0.4s``, ``12s``, ``3m``, ``5h``, ``2d``: one unit is enough to see whether something is stuck."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.0f}s"
