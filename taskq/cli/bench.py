"""``taskq bench``: a quick measurement of this machine and this Redis."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from taskq.cli.output import echo, print_json, print_table
from taskq.cli.session import json_option, passing_app

if TYPE_CHECKING:
    from taskq.client.app import TaskQ


@click.command()
@passing_app
@click.option(
    "--messages", type=click.IntRange(100, 5_000_000), default=20_000, show_default=True, help="How many to run."
)
@click.option(
    "--round-trips", type=click.IntRange(10, 100_000), default=300, show_default=True, help="How many to time."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def bench(app: TaskQ, messages: int, round_trips: int, yes: bool, as_json: bool) -> None:
    """Measure sending, running and latency here.

    \b
    taskq bench -b redis://localhost:6379/15
    taskq bench --messages 200000 --json --yes > figures.json

    It starts a worker process of its own, on no-op tasks in a namespace of its own, which it deletes afterwards. It
    loads the server as much as it can: do not run it on one that others depend on.
    """
    from taskq.bench.measure import run, scratch_namespace

    namespace = scratch_namespace()
    if not yes:
        echo(f"{messages:,} messages to {app.address}, namespace {namespace}.", err=True)
        click.confirm("This uses all that the server can give for some seconds. Go on?", abort=True, err=True)
    figures = run(app.config.broker_url, namespace, messages, round_trips)
    if as_json:
        print_json({"messages": messages, **dataclasses.asdict(figures)})
        return
    rows = [
        ("one PING", f"{figures.round_trip_ms:.2f} ms"),
        ("sent, one .delay() at a time", f"{figures.sent_single:,.0f}/s"),
        ("sent with .delay_many()", f"{figures.sent_bulk:,.0f}/s"),
        ("no-op tasks, one worker process", f"{figures.ran:,.0f}/s"),
        (".delay() to result, median", f"{figures.latency_p50_ms:.2f} ms"),
        (".delay() to result, 99th percentile", f"{figures.latency_p99_ms:.2f} ms"),
    ]
    print_table(("what", "measured"), rows, numbers=("measured",))
