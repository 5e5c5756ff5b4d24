"""``--watch``: the same view again and again, until Ctrl-C."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from taskq.cli.output import echo, print_json
from taskq.values.serialization import to_json

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def watch_option(command: F) -> F:
    """Add ``--watch [SECONDS]`` as *watch*."""
    return click.option(
        "--watch",
        type=click.FloatRange(min=0.1),
        is_flag=False,
        flag_value=2.0,
        metavar="[SECONDS]",
        help="Refresh every SECONDS (2) until Ctrl-C; with --json one line each time.",
    )(command)


def show(
    read: Callable[[], T], table: Callable[[T], None], as_json: Callable[[T], object] | None, watch: float | None
) -> None:
    """Print what *read* returns, once or every *watch* seconds.

    Args:
        read: looks at Redis.
        table: prints it for people.
        as_json: makes of it what JSON can hold; None prints the table.
        watch: seconds; None: once.
    """
    if watch is None:
        _print(read(), table, as_json)
        return
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            value = read()
            if as_json is not None:
                echo(to_json(as_json(value)))
            else:
                click.clear()  # nothing where stdout is not a terminal
                table(value)
            sys.stdout.flush()
            time.sleep(watch)


def _print(value: T, table: Callable[[T], None], as_json: Callable[[T], object] | None) -> None:
    if as_json is None:
        table(value)
    else:
        print_json(as_json(value))
