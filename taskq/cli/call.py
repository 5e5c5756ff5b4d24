"""``taskq call``: sends one call of a task, or one for each line of a file."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from taskq.cli.callfile import CallFile
from taskq.cli.output import echo, print_json, progress_bar
from taskq.cli.session import app_options, exit_code, json_option, open_app, reporting_errors
from taskq.cli.values import duration_or_instant_value, duration_value, instant_value, json_value
from taskq.errors import BrokerUnavailableError, ConfigError, ExitCode, SerializationError, TaskqError

if TYPE_CHECKING:
    from taskq.broker.producer import Outgoing
    from taskq.client.task import BaseTask

_SETTINGS = ("countdown", "eta", "expires", "queue", "priority")


@click.command()
@app_options
@click.option("-a", "--args", "args_text", metavar="JSON", help="Positional arguments, as a JSON array.")
@click.option("-k", "--kwargs", "kwargs_text", metavar="JSON", help="Keyword arguments, as a JSON object.")
@click.option(
    "--from",
    "file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path, allow_dash=True),
    help='One call for each line of FILE; "-" is stdin.',
)
@click.option(
    "--countdown", metavar="DURATION", callback=duration_value, help="Not before this long from now: 90, 5m, 1d."
)
@click.option("--eta", metavar="TIME", callback=instant_value, help="Not before this time: 2026-11-01T02:00 (UTC).")
@click.option(
    "--expires",
    metavar="WHEN",
    callback=duration_or_instant_value,
    help="Must not start after this long, or after this time.",
)
@click.option("--queue", metavar="NAME", help="Into this queue instead of the task's.")
@click.option("--priority", type=click.IntRange(0, 9), help="Higher is sooner.")
@click.option("--task-id", metavar="ID", help="Of the one call; the same id is accepted once within a day.")
@click.option(
    "--id-prefix", metavar="TEXT", help="Line 17 gets the task id TEXT-17, which is accepted once within a day."
)
@click.option("--dry-run", is_flag=True, help="Only check the calls, and count them.")
@json_option
@click.argument("task")
@reporting_errors()
def call(
    app_path: str | None,
    broker_url: str | None,
    namespace: str | None,
    args_text: str | None,
    kwargs_text: str | None,
    file: Path | None,
    task_id: str | None,
    id_prefix: str | None,
    dry_run: bool,
    as_json: bool,
    task: str,
    **settings: Any,
) -> None:
    """Send a call of TASK, or many from a file. Needs the app's code, to check them.

    \b
    taskq call -A shop:app shop.add -a '[1, 2]'
    taskq call -A shop:app shop.send_receipt -k '{"order": 42}' --countdown 10m
    taskq call -A shop:app shop.send_coupon --from customers.jsonl --id-prefix coupons-2026-11
    psql -Atc 'SELECT json_build_array(id) FROM customer' | taskq call -A shop:app shop.send_coupon --from -

    Each line of FILE is a JSON array of positional arguments or a JSON object of keyword arguments; empty lines are
    skipped. Lines are sent a thousand at a time, however many there are.

    FILE is read twice: every line is checked before the first is sent. What comes through a pipe is checked as it
    is sent: a line that cannot be called ends the command, which then says how many were sent before.

    With --id-prefix, a file that was sent in part is sent again as it is: what has arrived within the last day is
    skipped. Without, all of it is sent a second time.

    \b
    exit codes  0 sent, 2 wrong usage, a wrong line or no such task, 69 no Redis, 130 Ctrl-C
    """
    if file is None and id_prefix is not None:
        raise click.UsageError("--id-prefix goes with --from; for one call write --task-id")
    if file is not None and (args_text is not None or kwargs_text is not None or task_id is not None):
        raise click.UsageError("--from goes without --args, --kwargs and --task-id: each line has its own")
    app = open_app(app_path, broker_url, namespace, needs_code=True)
    app.load()
    found, given = app.get_task(task), {name: settings[name] for name in _SETTINGS if settings[name] is not None}
    if file is None:
        args, kwargs = json_value(args_text, "--args", list), json_value(kwargs_text, "--kwargs", dict)
        if task_id is not None:
            given["task_id"] = task_id
        _send_one(found, given, args or [], kwargs or {}, dry_run=dry_run, as_json=as_json)
    else:
        _send_lines(found, given, file, id_prefix, dry_run=dry_run, as_json=as_json)


def _send_one(
    task: BaseTask[..., Any],
    settings: dict[str, Any],
    args: list[Any],
    kwargs: dict[str, Any],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    try:
        outgoing, result = task.options(**settings).prepared(*args, **kwargs)
    except SerializationError as error:
        raise ConfigError(str(error)) from None
    new = 0 if dry_run else _sent(task, outgoing)
    if as_json:
        print_json({"task": task.name, "task_id": result.id, "sent": new, "dry_run": dry_run})
    elif dry_run:
        echo("would send 1")
    else:
        echo(f"sent {result.id}" if new else f"{result.id} was sent before")


def _sent(task: BaseTask[..., Any], outgoing: Outgoing) -> int:
    if outgoing.unique_id is not None:
        return task.app.send_once((outgoing,))
    task.app.send((outgoing,))
    return 1


def _send_lines(
    task: BaseTask[..., Any],
    settings: dict[str, Any],
    file: Path,
    id_prefix: str | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    calls = CallFile(task, settings, "stdin" if str(file) == "-" else str(file), id_prefix)
    count = None
    if dry_run or file.is_file():  # a pipe can be read but once
        with _opened(file) as lines, progress_bar("checking", None) as progress:
            count = calls.check(lines, progress)
    if not dry_run:
        _send_checked(calls, file, count)
    if as_json:
        numbers: dict[str, Any] = (
            {"calls": count} if dry_run else {"sent": calls.sent, "sent_before": calls.sent_before}
        )
        print_json({"task": task.name, **numbers, "dry_run": dry_run})
    elif dry_run:
        echo(f"would send {count}")
    else:
        echo(f"sent {calls.sent}")
        if calls.sent_before:
            echo(f"{calls.sent_before} were sent before", err=True)


def _send_checked(calls: CallFile, file: Path, count: int | None) -> None:
    try:
        with _opened(file) as lines, progress_bar("sending", count) as progress:
            calls.send(lines, progress)
    except KeyboardInterrupt:
        echo(f"taskq: interrupted; {_so_far(calls)}", err=True)
        raise SystemExit(ExitCode.INTERRUPTED) from None
    except TaskqError as error:
        unsure = "; the next thousand may or may not have arrived" if isinstance(error, BrokerUnavailableError) else ""
        echo(f"taskq: {error}; {_so_far(calls)}{unsure}", err=True)
        raise SystemExit(exit_code(error)) from None


def _so_far(calls: CallFile) -> str:
    before = f", {calls.sent_before} were sent before" if calls.sent_before else ""
    return f"{calls.sent} calls were sent{before}"


def _opened(file: Path) -> AbstractContextManager[IO[bytes]]:
    if str(file) == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return file.open("rb")
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
