"""``taskq schedule``: what fires when, and what became of it."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from taskq.cli.output import age, echo, print_json, print_table
from taskq.cli.session import json_option, passing_app
from taskq.errors import ScheduleError, suggestion
from taskq.values.escaping import escaped

if TYPE_CHECKING:
    from taskq.client.app import TaskQ
    from taskq.client.schedules.views import ScheduleInfo
    from taskq.values.schedule import Schedule

_COLUMNS = ("name", "when", "task", "queue", "from", "state", "last fire", "late", "next fire (UTC)")

_name = click.argument("name")


@click.group()
def schedule() -> None:
    """List, add, pause and run schedules.

    \b
    taskq schedule list                                     what fires when, and whether a beat is alive
    taskq schedule next coupons                             its coming fire times
    taskq schedule pause coupons
    taskq schedule add nightly --cron "0 2 * * *" --tz Europe/Paris --task shop.clean_up
    taskq schedule backfill coupons 2026-11-01 2026-11-07   send what should have been sent

    A broker URL is enough: beats register in Redis what the code defines. Times without an offset are in
    the zone of the setting timezone (UTC).
    """


@schedule.command("list")
@passing_app
@json_option
def list_schedules(app: TaskQ, as_json: bool) -> None:
    """Show every schedule, and whether a beat is alive to fire it."""
    app.load()
    found, beats = app.schedules.list(), app.schedules.beats()
    if as_json:
        print_json({"beats": beats, "schedules": [_fields(one) for one in found]})
        return
    if not found:
        echo("no schedules")
    else:
        print_table(_COLUMNS, [_row(one) for one in found], numbers=("late",), spare=("from", "last fire", "queue"))
    echo(f"beats alive: {len(beats)}", err=True)


@schedule.command()
@passing_app
@json_option
@_name
def show(app: TaskQ, as_json: bool, name: str) -> None:
    """Show all that is known of one schedule."""
    app.load()
    fields = _fields(app.schedules.get(name))
    if as_json:
        print_json(fields)
        return
    for key, value in fields.items():
        echo(f"{key.replace('_', ' ') + ':':<13}{'-' if value is None else escaped(str(value))}")


@schedule.command()
@passing_app
@json_option
@_name
def pause(app: TaskQ, as_json: bool, name: str) -> None:
    """Fire it no more, until it is resumed; kept in Redis."""
    app.load()
    _report(as_json, name, "paused", "was paused before", app.schedules.pause(name))


@schedule.command()
@passing_app
@json_option
@_name
def resume(app: TaskQ, as_json: bool, name: str) -> None:
    """Let it go on. What was due meanwhile is not made up for; see "taskq schedule backfill"."""
    app.load()
    _report(as_json, name, "resumed", "was not paused", app.schedules.resume(name))


@schedule.command()
@passing_app
@json_option
@_name
def run(app: TaskQ, as_json: bool, name: str) -> None:
    """Send its message now, once, paused or not."""
    app.load()
    result = app.schedules.run_now(name)
    print_json({"name": name, "task_id": result.id}) if as_json else echo(f"sent {result.id}")


@schedule.command()
@passing_app
@json_option
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="Refuse to send more.")
@_name
@click.argument("start")
@click.argument("end")
def backfill(app: TaskQ, as_json: bool, limit: int, name: str, start: str, end: str) -> None:
    """Send one message for each fire time from START to END, whether it was fired or not.

    \b
    taskq schedule backfill coupons 2026-11-01 2026-11-07
    taskq schedule backfill coupons 2026-11-01T02:00+01:00 2026-11-01T02:00+01:00

    Each fire time once a day: a backfill that was interrupted is completed by doing it again.
    """
    app.load()
    sent = app.schedules.backfill(name, _instant(app, start), _instant(app, end), limit=limit)
    if as_json:
        print_json({"name": name, "task_ids": [result.id for result in sent]})
    else:
        echo(f"sent {len(sent)}")


@schedule.command()
@passing_app
@json_option
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Maximum number of rows.")
@_name
def history(app: TaskQ, as_json: bool, limit: int, name: str) -> None:
    """Show what became of its last fire times, newest first."""
    app.load()
    fires = app.schedules.history(name, limit=limit)
    if as_json:
        print_json([_plain(dataclasses.asdict(fire)) for fire in fires])
        return
    if not fires:
        echo("nothing yet")
        return
    columns = ("fire time (UTC)", "outcome", "fired at", "ended at", "runtime", "task id")
    rows = [
        (
            _short(fire.fire_time),
            f"{fire.outcome} {fire.missed} before it" if fire.missed else fire.outcome,
            _short(fire.fired_at),
            _short(fire.ended_at),
            age(fire.runtime),
            fire.task_id or "-",
        )
        for fire in fires
    ]
    print_table(columns, rows, numbers=("runtime",), spare=("ended at",), whole=("task id",))


@schedule.command("next")
@passing_app
@json_option
@click.option("-n", "--count", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many of each.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def next_fires(app: TaskQ, as_json: bool, count: int, names: tuple[str, ...]) -> None:
    """Show the coming fire times of some schedules, or of all: in the schedule's own time and in UTC."""
    app.load()
    found = {one.name: one for one in app.schedules.list()}
    rows = []
    for name in names or found:
        times = app.schedules.next(name, count) if names or found[name].next_fire else []
        zone = _zone(found[name].zone)
        rows += [(name, when.astimezone(zone), when, found[name].paused) for when in times]
    rows.sort(key=lambda row: (row[2], row[0]))
    if as_json:
        print_json(
            [
                {"name": name, "local": local.isoformat(), "utc": _iso(when), "paused": paused}
                for name, local, when, paused in rows
            ]
        )
        return
    if not rows:
        echo("no fire times to come")
        return
    texts = [
        (name, f"{local:%a %Y-%m-%d %H:%M:%S} {local.tzname()}", _short(when), "paused" if paused else "")
        for name, local, when, paused in rows
    ]
    print_table(("name", "local time", "UTC", ""), texts)


@schedule.command()
@passing_app
@json_option
@click.option("--task", required=True, metavar="NAME", help="The task to send.")
@click.option("--cron", "line", metavar="LINE", help='Such as "0 2 * * *"; with six fields the second comes first.')
@click.option("--tz", metavar="ZONE", help="Zone of --cron, such as Europe/Paris; default: the setting timezone.")
@click.option("--every", "interval", metavar="TIME", help="Such as 30, 5m or 1d.")
@click.option("--at", "once", metavar="TIME", help="Once, such as 2026-12-24T18:00+01:00.")
@click.option("--args", metavar="JSON", default="[]", help="Positional arguments, a JSON array.")
@click.option("--kwargs", metavar="JSON", default="{}", help="Keyword arguments, a JSON object.")
@click.option("--queue", metavar="NAME", help="Queue to send to.")
@click.option("--priority", type=click.IntRange(0, 9), help="Higher is sooner.")
@click.option("--catch-up", metavar="WHICH", default="last", show_default=True, help="none, last or all.")
@click.option("--overlap", metavar="HOW", default="allow", show_default=True, help="allow, skip, queue or cancel.")
@click.option("--jitter", metavar="TIME", default="0", help="Fire later by up to this.")
@click.option("--start", metavar="TIME", help="No fire time before.")
@click.option("--end", metavar="TIME", help="No fire time after.")
@_name
def add(app: TaskQ, as_json: bool, name: str, **given: Any) -> None:
    """Add a schedule, or replace one that was added. Every beat of the namespace fires it.

    \b
    taskq schedule add nightly --cron "0 2 * * *" --tz Europe/Paris --task shop.clean_up
    taskq schedule add poll --every 30s --task shop.poll --args '["eu"]' --overlap skip
    taskq schedule add xmas --at 2026-12-24T18:00+01:00 --task shop.greet --queue mails
    """
    app.load()
    own = [task for task in app.tasks if not task.startswith("taskq.")]
    if own and given["task"] not in app.tasks:
        raise click.UsageError(f"the app has no task {given['task']!r}; {suggestion(given['task'], own)}")
    when = _schedule(app, given.pop("line"), given.pop("tz"), given.pop("interval"), given.pop("once"))
    for key, kind in (("args", list), ("kwargs", dict)):
        given[key] = _json(given[key], kind, key)
    for key in ("start", "end"):
        given[key] = _instant(app, given[key]) if given[key] else None
    options = {key: value for key, value in given.items() if value is not None}
    added = app.schedules.add(name, when, options.pop("task"), **options)
    print_json(_fields(added)) if as_json else echo(f"{name}: {added.spec}, next {_short(added.next_fire)} UTC")


@schedule.command()
@passing_app
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@_name
def remove(app: TaskQ, yes: bool, as_json: bool, name: str) -> None:
    """Forget a schedule that was added, or whose code is gone. Messages that it holds back end as REVOKED."""
    if not yes:
        click.confirm(f"Remove the schedule {name} for good?", abort=True)
    ended = app.schedules.remove(name)
    if as_json:
        print_json({"name": name, "changed": True, "revoked": ended})
    else:
        click.echo(
            f"{name}: removed" + (f"; messages that it held back and that are revoked: {ended}" if ended else "")
        )


def _schedule(app: TaskQ, line: str | None, tz: str | None, interval: str | None, once: str | None) -> Schedule:
    from taskq.values.schedule import at, cron, every

    if sum(given is not None for given in (line, interval, once)) != 1:
        raise click.UsageError("when? Give one of --cron, --every and --at")
    if tz is not None and line is None:
        raise click.UsageError("--tz goes with --cron")
    if line is not None:
        return cron(line, tz)
    if interval is not None:
        return every(float(interval) if interval.replace(".", "", 1).isdigit() else interval)
    return at(_instant(app, once or ""))


def _instant(app: TaskQ, text: str) -> datetime:
    from taskq.values.schedule.zones import zone_of

    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        zone = app.config.timezone
        raise ScheduleError(
            f"{text!r} is not a time; write for example 2026-11-01T02:00+01:00 ({zone} without it)"
        ) from None
    return when if when.tzinfo else when.replace(tzinfo=zone_of(app.config.timezone))


def _json(text: str, kind: type, what: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, kind):
        raise ScheduleError(f"--{what}: {text!r} is not JSON {'array' if kind is list else 'object'}")
    return value


def _zone(name: str) -> Any:
    from datetime import timedelta, timezone

    from taskq.values.schedule.zones import zone_of

    return timezone(timedelta(seconds=int(name))) if name.lstrip("-").isdigit() else zone_of(name)


def _row(one: ScheduleInfo) -> list[object]:
    late = age(one.lateness) if one.fired_at else "-"
    return [
        one.name,
        one.spec,
        one.task,
        one.queue,
        one.source,
        one.state,
        _short(one.last_fire),
        late,
        _short(one.next_fire),
    ]


def _fields(one: ScheduleInfo) -> dict[str, Any]:
    return _plain({"state": one.state} | dataclasses.asdict(one))


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: _iso(value) if isinstance(value, datetime) else value for key, value in fields.items()}


def _iso(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds")


def _short(when: datetime | None) -> str:
    return "-" if when is None else f"{when:%Y-%m-%d %H:%M:%S}"


def _report(as_json: bool, name: str, done: str, before: str, changed: bool) -> None:
    if as_json:
        print_json({"name": name, "changed": changed})
    else:
        echo(f"{name}: {done if changed else before}")
