"""``taskq demo``."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from taskq.cli.metrics import DEFAULT_PORT
from taskq.cli.session import reporting_errors
from taskq.errors import ExitCode


@click.command()
@click.option(
    "--path",
    "folder",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Whose Python files to work on. Default: the standard library of this Python.",
)
@click.option("--keep", is_flag=True, help="Leave it running for a look around, with metrics, until Ctrl-C.")
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65534),
    default=DEFAULT_PORT,
    show_default=True,
    help="With --keep: port of the queues' metrics; those of the workers are one above.",
)
@reporting_errors()
def demo(folder: Path | None, keep: bool, metrics_port: int) -> None:
    """See taskq work on real files, with its own Redis.

    Two worker processes parse every Python file of DIR and write what they count into a table; a scheduled job
    sums it up. Files that do not parse are retried and become dead letters. One of them is repaired and replayed.

    \b
    taskq demo                        with the files of Python's standard library
    taskq demo --path src --keep      with yours, and stay

    \b
    exit codes   0 every message is accounted for, 1 it is not or a process died, 130 Ctrl-C
    """
    from rich.console import Console

    from taskq.demo.run import run_demo

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end it in order
    try:
        code = run_demo(folder, keep=keep, metrics_port=metrics_port, console=Console())
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    raise SystemExit(code)
