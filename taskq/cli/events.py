"""``taskq events``: topics, their groups, and what groups have read."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from taskq.cli.output import age, echo, print_json, print_table, size
from taskq.cli.session import json_option, passing_app
from taskq.errors import ConfigError
from taskq.values.durations import moment, seconds
from taskq.values.escaping import escaped
from taskq.values.serialization import to_json
from taskq.values.subscription import STARTS

if TYPE_CHECKING:
    from taskq.broker.views.topics import GroupStats, TopicStats
    from taskq.client.app import TaskQ
    from taskq.values.topics import Event

F = TypeVar("F", bound=Callable[..., Any])

_TOPIC_NUMBERS = ("published", "kept", "groups")
_GROUP_NUMBERS = ("lag", "unread", "waiting", "pending", "delayed", "dead", "trimmed", "replays", "age", "workers")
FOLLOW_EVERY = 0.5
"""Seconds between looks of ``taskq events tail --follow``."""

_topic = click.argument("topic")
_group = click.option("--group", required=True, metavar="NAME", help="Which group of subscribers.")


def _time(text: str) -> datetime:
    """A point in time: ISO 8601 (UTC where it names no zone), or how long ago, such as ``2h``."""
    with contextlib.suppress(ConfigError, OverflowError):
        return datetime.now(UTC) - timedelta(seconds=seconds(text))
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a time: write 2026-11-01T00:00, 2026-11-01T00:00+09:00, or 2h for two hours ago"
        ) from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _instant(_: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    return None if value is None else _time(value)


def _instant_option(name: str, variable: str, text: str) -> Callable[[F], F]:
    return click.option(name, variable, metavar="TIME", callback=_instant, help=text)


@click.group()
def events() -> None:
    """Show event streams, publish and replay events.

    \b
    taskq events topics
    taskq events groups orders
    taskq events publish orders '{"id": 7}' --key customer-7
    taskq events tail orders --follow
    taskq events replay orders --group analytics --from 2026-11-01T00:00 --to 2026-11-02T00:00
    taskq events seek orders --group analytics --to latest

    A TIME is 2026-11-01T00:00 (UTC), 2026-11-01T00:00+09:00, or 2h for two hours ago.
    """


@events.command()
@passing_app
@json_option
def topics(app: TaskQ, as_json: bool) -> None:
    """Show every topic: how many events were published, how many are kept, and by which limits."""
    found = app.events.topics()
    if as_json:
        print_json([dataclasses.asdict(topic) for topic in found])
    elif not found:
        echo("no topics")
    else:
        columns = ("topic", *_TOPIC_NUMBERS, "oldest", "newest", "limits")
        print_table(columns, [_topic_row(topic) for topic in found], numbers=_TOPIC_NUMBERS, spare=("limits", "oldest"))


@events.command()
@passing_app
@json_option
@click.argument("names", nargs=-1, metavar="[TOPIC]...")
def groups(app: TaskQ, as_json: bool, names: tuple[str, ...]) -> None:
    """Show the groups of a topic (or of all): how far each has come.

    lag: events that no worker of the group has yet, in the topic (unread) or in the group's queue (waiting).
    pending, delayed, dead: as of any queue. trimmed: events that the topic dropped before the group saw them.
    replays: ranges that the group is reading again. age: of the oldest event that no worker has yet.
    """
    chosen = names or [topic.topic for topic in app.events.topics()]
    found = [group for name in chosen for group in app.events.groups(name)]
    if as_json:
        print_json([{**dataclasses.asdict(group), "lag": group.lag} for group in found])
    elif not found:
        echo("no groups")
    else:
        print_table(("topic", "group", *_GROUP_NUMBERS), [_group_row(g) for g in found], numbers=_GROUP_NUMBERS)


@events.command()
@passing_app
@json_option
@click.option("--key", metavar="KEY", help="Events of one key belong together.")
@_topic
@click.argument("payloads", nargs=-1, required=True, metavar="JSON...")
def publish(app: TaskQ, as_json: bool, key: str | None, topic: str, payloads: tuple[str, ...]) -> None:
    """Publish an event for each JSON value; "-" reads them from standard input, one to a line.

    The topic must be one that the app of -A declares, or that was published to before.
    """
    values = [_parsed(text) for text in _texts(payloads)]
    _declare(app, topic)
    count = app.publish_many(topic, values, key=None if key is None else lambda _: key)
    print_json({"topic": topic, "published": count}) if as_json else echo(f"published {count}")


@events.command()
@passing_app
@json_option
@click.option("-n", "--lines", type=click.IntRange(0), default=10, show_default=True, help="So many events, the last.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is published, until Ctrl-C.")
@_instant_option("--from", "start", "Instead of the last ones: from here on.")
@_instant_option("--to", "end", "Only events before this.")
@_topic
def tail(
    app: TaskQ, as_json: bool, lines: int, follow: bool, start: datetime | None, end: datetime | None, topic: str
) -> None:
    """Print events of a topic, whoever has read them; with --json one object to a line. No group moves."""
    last = "0-0"
    for page in app.events.pages(topic, start=start, end=end) if start else [app.events.last(topic, lines, end=end)]:
        for event in page:
            _print_event(event, as_json)
            last = event.id
    if not follow:
        return
    with contextlib.suppress(KeyboardInterrupt):
        if last == "0-0":
            last = app.events.end(topic)
        while True:
            for page in app.events.pages(topic, after=last):
                for event in page:
                    _print_event(event, as_json)
                    last = event.id
            time.sleep(FOLLOW_EVERY)


@events.command()
@passing_app
@json_option
@_group
@_instant_option("--from", "start", "First event to handle again; default the oldest that is kept.")
@_instant_option("--to", "end", "Only events before this; default up to where the group is.")
@_topic
def replay(app: TaskQ, as_json: bool, group: str, start: datetime | None, end: datetime | None, topic: str) -> None:
    """Have one group handle events again that it has read. Other groups get nothing.

    Its workers copy them into the group's queue as there is room, beside what is published meanwhile; "taskq events
    groups" shows when that is done.
    """
    count = app.events.replay(topic, group, start or "earliest", end)
    if as_json:
        print_json({"topic": topic, "group": group, "events": count})
    else:
        echo(f"group {group} will handle {count} events again")


@events.command()
@passing_app
@json_option
@_group
@click.option("--to", "to", required=True, metavar="PLACE", help="earliest, latest, a TIME, or an event's id.")
@click.option("--new", is_flag=True, help="Also a group that has not begun to read: it begins there.")
@_topic
def seek(app: TaskQ, as_json: bool, group: str, to: str, new: bool, topic: str) -> None:
    """Have a group go on reading somewhere else: it skips what is before, and reads again what is after.

    What is in the group's queue already is handled in any case; "taskq purge TOPIC/GROUP" drops it.
    """
    app.events.seek(topic, group, to if to in STARTS or _is_id(to) else _time(to), new=new)
    (moved,) = [each for each in app.events.groups(topic) if each.group == group]
    if as_json:
        print_json({"topic": topic, "group": group, "position": moved.position, "unread": moved.unread})
        return
    echo(f"group {group} reads after {moved.position}: {moved.unread} events to go")


def _is_id(text: str) -> bool:
    ms, _, sequence = text.partition("-")
    return len(ms) > 8 and ms.isdigit() and sequence.isdigit()


def _texts(payloads: tuple[str, ...]) -> Iterable[str]:
    if payloads != ("-",):
        return payloads
    return (line for line in sys.stdin if line.strip())


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not JSON ({error}); text is written as '\"text\"'") from None


def _declare(app: TaskQ, topic: str) -> None:
    """Without the app's code, a topic has the limits that its last publisher declared."""
    if topic in app.topics:
        return
    for known in app.events.topics():
        if known.topic == topic:
            age_ms, most, most_bytes = known.retention_ms, known.max_events or None, known.max_bytes or None
            retention = timedelta(milliseconds=age_ms) if age_ms else None
            app.topic(topic, retention=retention, max_events=most, max_bytes=most_bytes)


def _print_event(event: Event, as_json: bool) -> None:
    if as_json:
        fields = {"id": event.id, "ordinal": event.ordinal, "key": event.key, "payload": event.payload}
        echo(to_json(fields))
    else:
        payload = to_json(event.payload)
        text = f"{event.published_at:%Y-%m-%d %H:%M:%S.%f}"[:-3]
        echo(escaped(f"{text}  {event.id}  {event.key or '-'}  {payload}"))


def _topic_row(topic: TopicStats) -> list[object]:
    limits = [
        f"{_long(topic.retention_ms / 1000)}" if topic.retention_ms else "",
        f"{topic.max_events} events" if topic.max_events else "",
        size(topic.max_bytes) if topic.max_bytes else "",
    ]
    said = ", ".join(limit for limit in limits if limit) or "-"
    return [topic.topic, topic.total, topic.kept, topic.groups, _clock(topic.oldest), _clock(topic.newest), said]


def _group_row(group: GroupStats) -> list[object]:
    return [
        group.topic, group.group, group.lag, group.unread, group.waiting, group.pending, group.delayed, group.dead,
        group.trimmed, group.replays, age(group.age), group.workers,
    ]  # fmt: skip


def _long(duration: float) -> str:
    """A duration in its largest whole unit: ``7d``, ``36h``, ``90s``."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if duration >= length and duration % length == 0:
            return f"{duration / length:.0f}{unit}"
    return f"{duration:g}s"


def _clock(event_id: str | None) -> str:
    if event_id is None:
        return "-"
    return f"{moment(int(event_id.partition('-')[0])):%Y-%m-%d %H:%M:%S}"
