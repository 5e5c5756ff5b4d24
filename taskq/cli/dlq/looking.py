"""``taskq dlq list``, ``groups`` and ``show``: what failed for good, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from taskq.cli.dlq.options import (
    clock,
    fields_of,
    first_line,
    queue_option,
    where_options,
)
from taskq.cli.output import echo, print_json, print_table
from taskq.cli.session import json_option, passing_app
from taskq.errors import ExitCode
from taskq.values.escaping import escaped, indented
from taskq.values.redaction import redact_text

if TYPE_CHECKING:
    from taskq.client.app import TaskQ
    from taskq.client.dlq import DeadLetter, Group

_COLUMNS = ("id", "queue", "task", "task id", "reason", "error", "attempts", "replays", "died")
_GROUP_COLUMNS = ("fingerprint", "queue", "count", "task", "reason", "error", "first", "latest", "latest id")


@click.command("list")
@passing_app
@queue_option
@where_options
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Maximum number of rows.")
@click.option("--newest", is_flag=True, help="The latest first.")
@click.option("--after", metavar="POSITION", help="Go on where an earlier page ended.")
@click.option("--scan", type=click.IntRange(1), default=20_000, show_default=True, help="Look at no more than so many.")
@json_option
def list_letters(
    app: TaskQ,
    queue: str | None,
    where: dict[str, Any],
    limit: int,
    newest: bool,
    after: str | None,
    scan: int,
    as_json: bool,
) -> None:
    """Show dead letters, oldest first.

    Those that were replayed so often that a schedule leaves them alone are marked "parked".

    \b
    taskq dlq list --queue payments --newest --limit 20
    taskq dlq list --error ConnectionError --since 2h
    taskq dlq list --text customer-17
    """
    if queue is not None:
        app.dlq.check_queue(queue)
    page = app.dlq.page(queue, limit=limit, after=after, newest_first=newest, scan=scan, **where)
    parked_at = app.config.dlq_max_replays
    if as_json:
        print_json([fields_of(app, letter) for letter in page.letters])
    elif page.letters:
        rows = [_row(letter, parked_at) for letter in page.letters]
        print_table(
            _COLUMNS,
            rows,
            numbers=("attempts", "replays"),
            spare=("task id", "replays", "reason", "attempts"),
            whole=("id",),
        )
    elif page.next is None:
        echo("no dead letters" if page.total == 0 or not where else "no such dead letters")
    if page.next is not None:
        seen = f"scanned {page.scanned} of {page.total}" if where else f"{len(page.letters)} of {page.total}"
        echo(f"{seen}; --after {page.next} goes on, --limit shows more", err=True)
    elif where:
        echo(f"scanned {page.scanned} of {page.total}", err=True)


@click.command()
@passing_app
@queue_option
@json_option
def groups(app: TaskQ, queue: str | None, as_json: bool) -> None:
    """Show how many dead letters there are of each kind, most first.

    Dead letters of a kind have the task, the type of the error and the place in the code in common. This is quick
    however many there are.

    \b
    taskq dlq groups
    taskq dlq list --fingerprint 5d41402abc4b
    """
    if queue is not None:
        app.dlq.check_queue(queue)
    found = app.dlq.groups(queue)
    if as_json:
        print_json([_group_fields(group) for group in found])
    elif found:
        print_table(
            _GROUP_COLUMNS,
            [_group_row(group) for group in found],
            numbers=("count",),
            spare=("first", "latest id", "reason"),
            whole=("fingerprint",),
        )
    else:
        echo("no dead letters")


@click.command()
@passing_app
@queue_option
@json_option
@click.argument("id_", metavar="ID")
def show(
    app: TaskQ,
    queue: str | None,
    as_json: bool,
    id_: str,
) -> None:
    """Show one dead letter: arguments, traceback, every attempt that is remembered, what a person changed.

    ID is a task id, or the id in the first column of "taskq dlq list", which is found faster.
    """
    if queue is not None:
        app.dlq.check_queue(queue)
    letter = app.dlq.get(id_, queue)
    if letter is None:
        echo(f"taskq: no dead letter {id_!r}", err=True)
        raise SystemExit(ExitCode.FAILED)
    fields = fields_of(app, letter)
    if as_json:
        print_json(fields)
        return
    traceback, failures, edits = fields.pop("traceback"), fields.pop("failures"), fields.pop("edits")
    for name, value in fields.items():
        echo(f"{name.replace('_', ' ') + ':':<12} {escaped(str(value))}")
    for edit in edits:
        before = f"{edit['args']} {edit['kwargs']}"
        echo(f"{'edited:':<12} {edit['at']} by {escaped(edit['actor'])}, before: {escaped(before)}")
    echo("\nfailures:")
    for failure in failures:
        echo(f"  {_told(failure)}")
    echo(f"\n{indented(traceback)}" if traceback else "")


def _told(failure: dict[str, Any]) -> str:
    after = f" after replay {failure['replay']}" if failure["replay"] else ""
    error = escaped(first_line(f"{failure['error_type']}: {failure['error']}", 120))
    return f"{failure['at']} attempt {failure['attempt']}{after} on {escaped(failure['worker'])}: {error}"


def _row(letter: DeadLetter, parked_at: int) -> list[object]:
    evidence = letter.evidence
    error = f"{evidence.error_type}: {evidence.error}" if evidence.error_type else evidence.error
    return [
        letter.entry,
        letter.queue,
        letter.task or "-",
        letter.task_id or "-",
        evidence.reason,
        first_line(redact_text(error)),
        evidence.attempts,
        f"{letter.replays} parked" if letter.replays >= parked_at else letter.replays,
        clock(letter.died_at),
    ]


def _group_row(group: Group) -> list[object]:
    error = f"{group.error_type}: {group.error}" if group.error_type else group.error
    return [
        group.fingerprint or "-",
        group.queue,
        group.count,
        group.task or "-",
        group.reason or "-",
        first_line(redact_text(error)),
        clock(group.first_at),
        clock(group.last_at),
        group.last_entry or "-",
    ]


def _group_fields(group: Group) -> dict[str, Any]:
    return {
        "fingerprint": group.fingerprint,
        "queue": group.queue,
        "count": group.count,
        "task": group.task,
        "reason": group.reason,
        "error_type": group.error_type,
        "error": redact_text(group.error),
        "first_at": group.first_at.isoformat(timespec="milliseconds") if group.first_at else None,
        "last_at": group.last_at.isoformat(timespec="milliseconds") if group.last_at else None,
        "last_id": group.last_entry,
    }
