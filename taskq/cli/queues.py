"""``taskq queues``: what waits where."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from taskq.cli.output import age, print_table
from taskq.cli.session import json_option, passing_app
from taskq.cli.watching import show, watch_option

if TYPE_CHECKING:
    from taskq.broker.views.inspect import QueueStats
    from taskq.client.app import TaskQ

_NUMBERS = ("lag", "pending", "parked", "delayed", "dead", "oldest", "workers")


@click.command()
@passing_app
@json_option
@watch_option
def queues(app: TaskQ, as_json: bool, watch: float | None) -> None:
    """List queues: waiting, running, delayed, dead.

    \b
    taskq queues -b redis://localhost:6379/0    needs no code of the app
    taskq queues --watch                        again every 2 seconds
    taskq queues --json | jq '.[].backlog'

    lag: not yet delivered to a worker. pending: delivered, not settled. parked: waiting for the rate limit of their
    task. delayed: not due yet. dead: in the dead letter queue. oldest: age of the oldest message not yet delivered.
    workers: those with a live lease. state: paused queues deliver nothing.
    """
    show(app.queues, _print, _fields if as_json else None, watch)


def _print(stats: list[QueueStats]) -> None:
    print_table(
        ["queue", *_NUMBERS, "state"], [_row(queue) for queue in stats], numbers=_NUMBERS, spare=("parked", "oldest")
    )


def _fields(stats: list[QueueStats]) -> list[dict[str, Any]]:
    return [{**dataclasses.asdict(queue), "backlog": queue.backlog} for queue in stats]


def _row(queue: QueueStats) -> list[object]:
    return [
        queue.queue,
        queue.lag,
        queue.pending,
        queue.parked,
        queue.delayed,
        queue.dead,
        age(queue.oldest_age),
        queue.workers,
        "paused" if queue.paused else "",
    ]
