"""``taskq top``: queues, workers and running tasks, live in a terminal, with keys to act on them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from taskq.cli.session import passing_app
from taskq.errors import ConfigError

if TYPE_CHECKING:
    from taskq.client.app import TaskQ


@click.command()
@passing_app
@click.option(
    "--every", type=click.FloatRange(0.2, 60), default=1.0, show_default=True, help="Seconds between two looks."
)
def top(app: TaskQ, every: float) -> None:
    """Watch queues and workers live, and act on them.

    \b
    taskq top -b redis://localhost:6379/0

    \b
    up, down (k, j)  choose a queue          Tab  running tasks, or workers
    p  pause or resume it                    r    replay its dead letters (asks first)
    q  quit

    It needs a terminal of 80 by 24 or more; elsewhere use "taskq queues --watch".
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError('taskq top needs a terminal; elsewhere use "taskq queues --watch"')
    from taskq.cli.top.run import run

    app.sync_broker.execute("PING")  # a wrong address ends it here, with a line that can be read
    run(app, every)
