"""``taskq dlq export`` and ``import``: dead letters as lines of JSON."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskq.cli.dlq.options import queue_option, where_options
from taskq.cli.output import echo, print_json
from taskq.cli.session import json_option, passing_app

if TYPE_CHECKING:
    from taskq.client.app import TaskQ


@click.command("export")
@passing_app
@queue_option
@where_options
@json_option
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path, allow_dash=True))
def export_letters(app: TaskQ, queue: str | None, where: dict[str, Any], as_json: bool, file: Path) -> None:
    """Write dead letters into FILE, one JSON object a line; "-" is stdout. They stay where they are.

    Their bytes are kept exactly, so that "taskq dlq import" brings back what was there.

    \b
    taskq dlq export --queue payments payments.jsonl
    taskq dlq export --until 30d old.jsonl && taskq dlq purge --until 30d
    """
    if str(file) != "-":
        try:
            count = app.dlq.export_to(file, queue=queue, **where)
        except OSError as error:
            raise click.BadParameter(f"{file} cannot be written: {error.strerror}", param_hint="FILE") from None
        print_json({"file": str(file), "exported": count}) if as_json else echo(f"exported {count}")
        return
    with tempfile.TemporaryDirectory() as folder:  # whole or not at all, also into a pipe
        whole = Path(folder, "dead-letters")
        app.dlq.export_to(whole, queue=queue, **where)
        with whole.open(encoding="utf-8") as lines:
            shutil.copyfileobj(lines, sys.stdout)


@click.command("import")
@passing_app
@click.option("--queue", metavar="NAME", help="Put them all there, instead of where each was exported from.")
@json_option
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path, allow_dash=True))
def import_letters(app: TaskQ, queue: str | None, as_json: bool, file: Path) -> None:
    """Bring dead letters back from FILE into the dead letter queue; "-" is stdin.

    The whole file is checked before anything is written. Importing it again within a day changes nothing, also when
    the first time was interrupted.

    \b
    taskq dlq import payments.jsonl
    """
    if str(file) != "-":
        _report(*app.dlq.import_from(file, queue=queue), as_json=as_json)
        return
    with tempfile.TemporaryDirectory() as folder:  # it is read twice
        whole = Path(folder, "stdin")
        with whole.open("w", encoding="utf-8") as lines:
            shutil.copyfileobj(sys.stdin, lines)
        _report(*app.dlq.import_from(whole, queue=queue), as_json=as_json)


def _report(new: int, known: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"imported": new, "known": known})
        return
    echo(f"imported {new}")
    if known:
        echo(f"{known} are there, or were imported before", err=True)
