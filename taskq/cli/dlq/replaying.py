"""``taskq dlq replay`` and ``purge``: what becomes of dead letters."""

from __future__ import annotations

from typing import Any

import click

from taskq.cli.dlq.options import all_option, check_choice, check_queue, ids_argument, queue_option, where_options
from taskq.cli.session import app_options, open_app, reporting_errors
from taskq.errors import ExitCode


@click.command()
@app_options
@queue_option
@where_options
@all_option
@ids_argument
@reporting_errors()
def replay(
    app_path: str | None,
    broker_url: str | None,
    namespace: str | None,
    queue: str | None,
    where: dict[str, Any],
    everything: bool,
    ids: tuple[str, ...],
) -> None:
    """Put dead letters back into their queue, with their attempts counted anew.

    Name them by ID, or choose with --queue, --task or the like, or --all.
    """
    check_choice(ids, queue, where, everything)
    app = open_app(app_path, broker_url, namespace)
    check_queue(app, queue)
    _report("replayed", app.dlq.replay(ids or None, queue=queue, **where), ids)


@click.command()
@app_options
@queue_option
@where_options
@all_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@ids_argument
@reporting_errors()
def purge(
    app_path: str | None,
    broker_url: str | None,
    namespace: str | None,
    queue: str | None,
    where: dict[str, Any],
    everything: bool,
    yes: bool,
    ids: tuple[str, ...],
) -> None:
    """Delete dead letters for good.

    Name them by ID, or choose with --queue, --task or the like, or --all.
    """
    check_choice(ids, queue, where, everything)
    app = open_app(app_path, broker_url, namespace)
    check_queue(app, queue)
    if not yes:
        click.confirm(f"Delete {_what(ids, queue, where)} for good?", abort=True)
    _report("purged", app.dlq.purge(ids or None, queue=queue, **where), ids)


def _what(ids: tuple[str, ...], queue: str | None, where: dict[str, Any]) -> str:
    """What was chosen, for the question before a purge."""
    which = f"{len(ids)} dead letters" if ids else "all dead letters"
    given = {"queue": queue, **where} if queue else where
    return which + "".join(f" of {name} {value}" for name, value in given.items())


def _report(done: str, count: int, ids: tuple[str, ...]) -> None:
    click.echo(f"{done} {count}")
    if ids and count < len(set(ids)):
        click.echo(f"taskq: {len(set(ids)) - count} of the IDs are not there, or cannot be {done}", err=True)
        raise SystemExit(ExitCode.FAILED)
