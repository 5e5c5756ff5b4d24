"""``taskq dlq``: the messages that failed for good."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from taskq.cli.output import print_json, print_table, printable
from taskq.cli.session import app_options, open_app, reporting_errors
from taskq.errors import ExitCode

if TYPE_CHECKING:
    from taskq.dlq import DeadLetter

F = TypeVar("F", bound=Callable[..., Any])

_COLUMNS = ("id", "queue", "task", "task id", "reason", "error", "attempts", "replays", "died")

_queue = click.option("--queue", metavar="NAME", help="Only of this queue.")
_task = click.option("--task", metavar="NAME", help="Only of this task.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_ids = click.argument("ids", nargs=-1, metavar="[ID]...")
_all = click.option("--all", "everything", is_flag=True, help="Every dead letter there is.")


@click.group()
def dlq() -> None:
    """List, show, replay and purge the messages that failed for good.

    An ID is a task id, or the id in the first column of "taskq dlq list".
    """


@dlq.command("list")
@app_options
@_queue
@_task
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Show at most so many.")
@_json
@reporting_errors()
def list_letters(
    app_path: str | None,
    broker_url: str | None,
    namespace: str | None,
    queue: str | None,
    task: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show the dead letters, oldest first."""
    letters = open_app(app_path, broker_url, namespace).dlq
    found = letters.list(queue, limit=limit, task=task)
    if as_json:
        print_json([_fields(letter) for letter in found])
        return
    if not found:
        click.echo("no dead letters")
        return
    print_table(_COLUMNS, [_row(letter) for letter in found], numbers=("attempts", "replays"))
    if len(found) == limit and task is None and (total := letters.count(queue)) > limit:
        click.echo(f"{limit} of {total}; --limit shows more", err=True)


@dlq.command()
@app_options
@_queue
@_json
@click.argument("id_", metavar="ID")
@reporting_errors()
def show(
    app_path: str | None,
    broker_url: str | None,
    namespace: str | None,
    queue: str | None,
    as_json: bool,
    id_: str,
) -> None:
    """Show one dead letter with its arguments and traceback."""
    letter = open_app(app_path, broker_url, namespace).dlq.get(id_, queue)
    if letter is None:
        click.echo(f"taskq: no dead letter {id_!r}", err=True)
        raise SystemExit(ExitCode.FAILED)
    fields = _fields(letter)
    if as_json:
        print_json(fields)
        return
    traceback = fields.pop("traceback")
    for name, value in fields.items():
        click.echo(f"{name.replace('_', ' ') + ':':<12} {printable(str(value))}")
    click.echo(f"\n{printable(traceback)}" if traceback else "")


@dlq.command()
@app_options
@_queue
@_task
@_all
@_ids
@reporting_errors()
def replay(
    app_path: str | None,
    broker_url: str | None,
    namespace: str | None,
    queue: str | None,
    task: str | None,
    everything: bool,
    ids: tuple[str, ...],
) -> None:
    """Put dead letters back into their queue, with their attempts counted anew.

    Name them by ID, or choose with --queue, --task or --all.
    """
    _check_choice(ids, queue, task, everything)
    count = open_app(app_path, broker_url, namespace).dlq.replay(ids or None, queue=queue, task=task)
    _report("replayed", count, ids)


@dlq.command()
@app_options
@_queue
@_task
@_all
@click.option("--yes", is_flag=True, help="Do not ask.")
@_ids
@reporting_errors()
def purge(
    app_path: str | None,
    broker_url: str | None,
    namespace: str | None,
    queue: str | None,
    task: str | None,
    everything: bool,
    yes: bool,
    ids: tuple[str, ...],
) -> None:
    """Delete dead letters for good.

    Name them by ID, or choose with --queue, --task or --all.
    """
    _check_choice(ids, queue, task, everything)
    letters = open_app(app_path, broker_url, namespace).dlq
    if not yes:
        click.confirm(f"Delete {_what(ids, queue, task)} for good?", abort=True)
    _report("purged", letters.purge(ids or None, queue=queue, task=task), ids)


def _check_choice(ids: tuple[str, ...], queue: str | None, task: str | None, everything: bool) -> None:
    if everything and (ids or queue or task):
        raise click.UsageError("--all goes without IDs, --queue and --task")
    if not (everything or ids or queue or task):
        raise click.UsageError("which ones? Give IDs, --queue, --task or --all")


def _what(ids: tuple[str, ...], queue: str | None, task: str | None) -> str:
    """What was chosen, for the question before a purge."""
    which = f"{len(ids)} dead letters" if ids else "all dead letters"
    return which + (f" of queue {queue}" if queue else "") + (f" of task {task}" if task else "")


def _report(done: str, count: int, ids: tuple[str, ...]) -> None:
    click.echo(f"{done} {count}")
    if ids and count < len(set(ids)):
        click.echo(f"taskq: {len(set(ids)) - count} of the IDs are not there, or cannot be {done}", err=True)
        raise SystemExit(ExitCode.FAILED)


def _row(letter: DeadLetter) -> list[object]:
    evidence = letter.evidence
    error = f"{evidence.error_type}: {evidence.error}" if evidence.error_type else evidence.error
    first_line = error.partition("\n")[0]
    return [
        letter.entry,
        letter.queue,
        letter.task or "-",
        letter.task_id or "-",
        evidence.reason,
        first_line if len(first_line) <= 60 else first_line[:59] + "…",
        evidence.attempts,
        letter.replays,
        f"{letter.died_at:%Y-%m-%d %H:%M:%S}",
    ]


def _fields(letter: DeadLetter) -> dict[str, Any]:
    """All that is known of a dead letter, with the names that ``--json`` promises."""
    evidence, message = letter.evidence, letter.message
    fields: dict[str, Any] = {
        "id": letter.entry,
        "queue": letter.queue,
        "task": letter.task,
        "task_id": letter.task_id,
        "args": message.args if message else None,
        "kwargs": message.kwargs if message else None,
        "reason": evidence.reason,
        "error_type": evidence.error_type,
        "error": evidence.error,
        "attempts": evidence.attempts,
        "crashes": evidence.crashes,
        "exit_code": evidence.exit_code,
        "rss_bytes": evidence.rss_bytes,
        "replays": letter.replays,
        "worker": evidence.worker,
        "died_at": letter.died_at.isoformat(timespec="milliseconds"),
        "traceback": evidence.traceback,
    }
    if message is None:
        fields["data"] = letter.data.hex()
    return fields
