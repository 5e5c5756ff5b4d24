"""How commands print: tables for people, JSON for programs, and nothing that a terminal would obey."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import click

from taskq.values.escaping import escaped
from taskq.values.serialization import to_json

_GAP = 1
"""Columns between two columns of a table."""
_NARROWEST = 8
"""What a column of text keeps when it is shortened."""


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    numbers: Sequence[str] = (),
    spare: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> None:
    """Print a table on stdout, one line for each row.

    A terminal that is too narrow gets fewer columns, then shorter ones; a file or a pipe gets all of it.

    Args:
        columns: the headings.
        rows: one value per column.
        numbers: headings of the columns that are aligned to the right, and never shortened.
        spare: headings of the columns to leave out where there is no room, the first one first.
        whole: headings of other columns that are never shortened: ids are there to be copied.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[escaped(str(value)) for value in row] for row in rows]
    needed = {
        column: max([cell_len(column), *(cell_len(row[at]) for row in cells)]) for at, column in enumerate(columns)
    }
    console = Console()
    widths = fitting(needed, console.width, (*numbers, *whole), spare) if console.is_terminal else needed
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, _GAP, 0, 0))
    for column, width in widths.items():
        justify: Literal["left", "right"] = "right" if column in numbers else "left"
        table.add_column(column, justify=justify, no_wrap=True, overflow="ellipsis", width=width)
    for row in cells:
        table.add_row(*(Text(cell) for column, cell in zip(columns, row, strict=True) if column in widths))
    natural = sum(widths.values()) + _GAP * len(widths)
    Console(width=console.width if console.is_terminal else natural).print(table)
    if hidden := [column for column in columns if column not in widths]:
        echo(f"(no room for: {', '.join(hidden)}; a wider terminal or --json shows all)", err=True)


def fitting(needed: Mapping[str, int], width: int, whole: Sequence[str], spare: Sequence[str]) -> dict[str, int]:
    """The columns that fit into *width*, and how wide each of them is.

    Args:
        needed: by heading, what its longest cell takes.
        width: of the terminal.
        whole: headings of columns that are not shortened: a part of a number is a wrong number.
        spare: headings of the columns to leave out, the first one first.
    """
    widths = dict(needed)
    for column in spare:
        if sum(widths.values()) + _GAP * len(widths) <= width:
            break
        widths.pop(column, None)
    while (over := sum(widths.values()) + _GAP * len(widths) - width) > 0:
        texts = sorted((size, column) for column, size in widths.items() if column not in whole)
        if not texts or texts[-1][0] <= _NARROWEST:
            break  # the terminal is narrower than any use: rich crops
        size, widest = texts[-1]
        second = texts[-2][0] if len(texts) > 1 else _NARROWEST
        widths[widest] = max(size - over, min(second, size - 1), _NARROWEST)
    return widths


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
