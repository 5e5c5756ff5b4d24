"""``taskq dlq replay``, ``edit``, ``purge`` and ``runs``: what becomes of dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from taskq.cli.dlq.options import (
    all_option,
    check_choice,
    check_fingerprint,
    clock,
    ids_argument,
    queue_option,
    skip_missing_option,
    where_options,
)
from taskq.cli.output import echo, print_json, print_table, progress_bar
from taskq.cli.session import json_option, passing_app
from taskq.cli.values import json_value
from taskq.values.redaction import restore

if TYPE_CHECKING:
    from taskq.client.app import TaskQ
    from taskq.client.dlq import Run

_RUN_COLUMNS = ("id", "queue", "started", "by", "which", "state", "replayed", "succeeded", "again", "failed", "other")
_NUMBERS = ("replayed", "succeeded", "again", "failed", "other")

_to = click.option("--to", metavar="QUEUE", help="Put them into this queue instead of the one they died in.")


@click.command()
@passing_app
@queue_option
@where_options
@all_option
@_to
@click.option("--as", "new_task", metavar="TASK", help="As messages of this task: for one that was renamed.")
@click.option("--rate", metavar="RATE", help="No faster than this, such as 100/s or 30/m.")
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
@skip_missing_option
@json_option
@ids_argument
def replay(
    app: TaskQ,
    queue: str | None,
    where: dict[str, Any],
    everything: bool,
    to: str | None,
    new_task: str | None,
    rate: str | None,
    dry_run: bool,
    skip_missing: bool,
    as_json: bool,
    ids: tuple[str, ...],
) -> None:
    """Put dead letters back into their queue, with their attempts counted anew.

    Name them by ID, or choose with --queue, --task or the like, or --all.

    \b
    taskq dlq replay 1740830400000-0
    taskq dlq replay --fingerprint 5d41402abc4b --dry-run
    taskq dlq replay --queue payments --error ConnectionError --rate 100/s
    taskq dlq replay --task shop.pay --to payments-slow
    taskq dlq replay --task shop.pay --as shop.charge

    Each is put back once, also when the command is interrupted and repeated. "taskq dlq runs" tells how they ended.
    """
    check_choice(ids, queue, where, everything)
    check_fingerprint(app, queue, where)
    if new_task is not None:
        app.load()
    total = None if ids or where else app.dlq.count(queue)
    with progress_bar("replaying", total) as progress:
        count = app.dlq.replay(
            ids or None,
            queue=queue,
            to=to,
            new_task=new_task,
            rate=rate,
            dry_run=dry_run,
            skip_missing=skip_missing,
            progress=progress,
            **where,
        )
    if as_json:
        print_json({"replayed": 0 if dry_run else count, "meant": count, "dry_run": dry_run})
    else:
        echo(f"would replay {count}" if dry_run else f"replayed {count}")


@click.command()
@passing_app
@queue_option
@click.option("--args", "args_text", metavar="JSON", help="The positional arguments from now on, as a JSON array.")
@click.option("--kwargs", "kwargs_text", metavar="JSON", help="The keyword arguments from now on, as a JSON object.")
@_to
@json_option
@click.argument("id_", metavar="ID")
def edit(
    app: TaskQ,
    queue: str | None,
    args_text: str | None,
    kwargs_text: str | None,
    to: str | None,
    as_json: bool,
    id_: str,
) -> None:
    """Replay one dead letter with other arguments.

    It remembers the arguments that it had, and who changed them. With -A the new ones must fit the task. What is
    shown as [redacted] or *** stays as it was where you write that again.

    \b
    taskq dlq edit -A shop:app 1740830400000-0 --args '[42, "ann@example.com"]'
    taskq dlq edit -A shop:app 1740830400000-0 --kwargs '{"amount": 10}'
    """
    args, kwargs = json_value(args_text, "--args", list), json_value(kwargs_text, "--kwargs", dict)
    if args is None and kwargs is None:
        raise click.UsageError("with which arguments? Give --args, --kwargs or both")
    app.load()
    if queue is not None:
        app.dlq.check_queue(queue)
    letter = app.dlq.get(id_, queue)
    if letter is not None and letter.message is not None:
        try:
            args = None if args is None else restore(args, letter.message.args, "--args")
            kwargs = None if kwargs is None else restore(kwargs, letter.message.kwargs, "--kwargs")
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    app.dlq.edit(id_, args, kwargs, queue=queue, to=to)
    print_json({"id": id_, "replayed": 1}) if as_json else echo("replayed 1")


@click.command()
@passing_app
@queue_option
@where_options
@all_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
@skip_missing_option
@json_option
@ids_argument
def purge(
    app: TaskQ,
    queue: str | None,
    where: dict[str, Any],
    everything: bool,
    yes: bool,
    dry_run: bool,
    skip_missing: bool,
    as_json: bool,
    ids: tuple[str, ...],
) -> None:
    """Delete dead letters for good.

    Name them by ID, or choose with --queue, --task or the like, or --all. "taskq dlq export" keeps a copy.

    \b
    taskq dlq purge --queue emails --until 30d
    """
    check_choice(ids, queue, where, everything)
    if queue is not None:
        app.dlq.check_queue(queue)
    check_fingerprint(app, queue, where)
    if not (yes or dry_run):
        click.confirm(f"Delete {_what(ids, queue, where)} for good?", abort=True)
    total = None if ids or where else app.dlq.count(queue)
    with progress_bar("purging", total) as progress:
        count = app.dlq.purge(
            ids or None, queue=queue, dry_run=dry_run, skip_missing=skip_missing, progress=progress, **where
        )
    if as_json:
        print_json({"purged": 0 if dry_run else count, "meant": count, "dry_run": dry_run})
    else:
        echo(f"would purge {count}" if dry_run else f"purged {count}")


@click.command()
@passing_app
@queue_option
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Maximum number of rows.")
@json_option
def runs(app: TaskQ, queue: str | None, limit: int, as_json: bool) -> None:
    """Show the latest replays, by hand or by schedule, and how their messages ended.

    again: failed for good as before. failed: for good, in another way. other: revoked, expired or skipped.
    A run is "stopped" when a canary failed again, "undecided" when it had not ended in time: others of its kind
    stayed where they were. One that was killed stays "running"; repeat it.
    """
    if queue is not None:
        app.dlq.check_queue(queue)
    found = app.dlq.runs(queue, limit=limit)
    if as_json:
        print_json([_run_fields(run) for run in found])
    elif found:
        print_table(
            _RUN_COLUMNS,
            [_run_row(run) for run in found],
            numbers=_NUMBERS,
            spare=("which", "by", "other", "again"),
            whole=("id",),
        )
    else:
        echo("no replays")


def _what(ids: tuple[str, ...], queue: str | None, where: dict[str, Any]) -> str:
    """What was chosen, for the question before a purge."""
    which = f"{len(ids)} dead letters" if ids else "all dead letters"
    given = {"queue": queue, **where} if queue else where
    return which + "".join(f" of {name} {value}" for name, value in given.items())


def _run_row(run: Run) -> list[object]:
    total = run.total
    which = f"{run.where} -> {run.to}" if run.to else run.where
    numbers = (total.replayed, total.succeeded, total.again, total.failed, total.other)
    return [run.id, run.queue, clock(run.started_at), run.actor, which, run.state, *numbers]


def _run_fields(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "queue": run.queue,
        "started_at": run.started_at.isoformat(timespec="milliseconds"),
        "seen_at": run.seen_at.isoformat(timespec="milliseconds"),
        "actor": run.actor,
        "where": run.where,
        "to": run.to,
        "state": run.state,
        **{name: getattr(run.total, name) for name in _NUMBERS},
        "by_fingerprint": {
            fingerprint: {name: getattr(tally, name) for name in _NUMBERS}
            for fingerprint, tally in run.by_fingerprint.items()
        },
    }
