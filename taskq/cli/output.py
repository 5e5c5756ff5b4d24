"""How commands print: tables for people, JSON for programs, and nothing that a terminal would obey."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click

from taskq.escaping import escaped
from taskq.serialization import to_json

_PIPE_WIDTH = 220
"""Columns of a table that goes into a file or a pipe, where no window says how wide it may be."""


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: Sequence[str] = ()) -> None:
    """Print a table on stdout.

    Args:
        columns: the headings.
        rows: one value per column.
        numbers: headings of the columns that are aligned to the right.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(escaped(str(value))) for value in row))
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table)


@contextmanager
def progress_bar(what: str, total: int | None) -> Iterator[Callable[[int], object] | None]:
    """A progress bar on stderr, where a person looks at it: gives what is to be told how much is done, or None."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def print_json(value: object) -> None:
    """Print *value* as JSON on stdout; what JSON cannot hold, such as bytes, is described as text."""
    click.echo(to_json(value, indent=2))


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print *text* on stdout, or on stderr, with control characters escaped: errors and names come from anywhere.

    Its own newlines and tabs stay; a value inside of it that is one line goes through ``escaped`` first.
    """
    click.echo(escaped(text, keep="\n\t"), err=err, nl=nl)


def age(seconds: float | None) -> str:
    """``0.4s``, ``12s``, ``3m``, ``5h``, ``2d``: one unit is enough to see whether something is stuck; ``-``: none."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f}s"
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.0f}s"


def size(count: float) -> str:
    """Bytes in one unit: ``312 B``, ``4.0 KiB``, ``38 MiB``."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
