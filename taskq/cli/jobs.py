"""``taskq jobs``: how far batch jobs have come."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from taskq.cli.output import echo, print_json, print_table
from taskq.cli.session import app_options, json_option, open_app, reporting_errors
from taskq.cli.watching import show as show_again
from taskq.cli.watching import watch_option
from taskq.values.escaping import escaped

if TYPE_CHECKING:
    from taskq.client.jobs import JobProgress


@click.group()
def jobs() -> None:
    """Show and run batch jobs.

    \b
    taskq jobs list -A shop:app
    taskq jobs show -A shop:app shop.settle_day --watch
    taskq jobs run -A shop:app shop.settle_day --at 2026-11-02T01:00+01:00
    """


@jobs.command("list")
@app_options
@json_option
@watch_option
@reporting_errors()
def list_(
    app_path: str | None, broker_url: str | None, namespace: str | None, as_json: bool, watch: float | None
) -> None:
    """Show every batch job of the app, and how far its last run has come."""
    app = open_app(app_path, broker_url, namespace, needs_code=True)
    show_again(app.jobs.list, _print, (lambda found: [_fields(job) for job in found]) if as_json else None, watch)


@jobs.command()
@app_options
@json_option
@watch_option
@reporting_errors()
@click.argument("name")
def show(
    app_path: str | None,
    broker_url: str | None,
    namespace: str | None,
    as_json: bool,
    watch: float | None,
    name: str,
) -> None:
    """Show one batch job: its window, progress, position, and last result."""
    app = open_app(app_path, broker_url, namespace, needs_code=True)
    show_again(lambda: app.jobs.progress(name), _print_one, _fields if as_json else None, watch)


@jobs.command()
@app_options
@json_option
@reporting_errors()
@click.option("--at", metavar="TIME", help="The fire time whose window to read, ISO 8601 with its zone; default: now.")
@click.argument("name")
def run(
    app_path: str | None, broker_url: str | None, namespace: str | None, as_json: bool, at: str | None, name: str
) -> None:
    """Have a worker run a batch job. A window that was committed before is not done again."""
    app = open_app(app_path, broker_url, namespace, needs_code=True)
    try:
        fire_time = None if at is None else datetime.fromisoformat(at)
    except ValueError:
        raise click.BadParameter(f"{at!r} is not a time: write 2026-11-02T01:00+01:00", param_hint="--at") from None
    task_id = app.jobs.run(name, fire_time).id
    print_json({"name": name, "task_id": task_id}) if as_json else echo(task_id)


def _print(found: list[JobProgress]) -> None:
    columns = ["job", "source", "window", "status", "done", "total", "percent", "finished", "error"]
    rows = [
        [job.name, job.source, job.window, job.status, job.done, _or_dash(job.total), _percent(job),
         _time(job.finished), job.error]
        for job in found
    ]  # fmt: skip
    print_table(columns, rows, numbers=("done", "total", "percent"), spare=("source", "window", "finished"))


def _print_one(job: JobProgress) -> None:
    for name, value in _fields(job).items():
        echo(f"{name + ':':<10} {escaped(str(_or_dash(value)))}")


def _fields(job: JobProgress) -> dict[str, Any]:
    fields = {**dataclasses.asdict(job), "percent": job.percent}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields.items()}


def _percent(job: JobProgress) -> str:
    return "-" if job.percent is None or job.status == "never" else f"{job.percent:.0f}%"


def _time(instant: datetime | None) -> str:
    return "-" if instant is None else f"{instant:%Y-%m-%d %H:%M:%S}"


def _or_dash(value: object) -> object:
    return "-" if value is None or value == "" else value
