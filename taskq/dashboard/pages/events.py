"""Event streams: topics, how far their groups have come, and reading again."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.responses import Response

from taskq.broker.views.topics import GroupStats, TopicStats
from taskq.dashboard.actions import record
from taskq.dashboard.render import number
from taskq.dashboard.routing import NotFoundError, Page
from taskq.dashboard.view import View
from taskq.errors import ConfigError, UnknownTopicError
from taskq.values.config import check_name
from taskq.values.redaction import redact

page = Page("events", "Events", "/events")

NEWEST = 20
MOST_TOPICS = 100


@page.get("/events")
def index(view: View) -> Response:
    """Every topic, with its groups."""
    events = view.site.app.events
    topics = events.topics()
    shown: list[tuple[TopicStats, list[GroupStats]]] = [
        (topic, events.groups(topic.topic)) for topic in topics[:MOST_TOPICS]
    ]
    return view.render("events.html", topics=shown, left_out=len(topics) - len(shown))


@page.get("/events/{topic}")
def detail(view: View) -> Response:
    """One topic: its groups and its newest events."""
    name, events = _topic(view), view.site.app.events
    try:
        groups, newest = events.groups(name), events.last(name, NEWEST)
    except UnknownTopicError as error:
        raise NotFoundError(str(error)) from error
    stats = next(topic for topic in events.topics() if topic.topic == name)
    rows = [(event, redact(event.payload)) for event in reversed(newest)]
    return view.render("topic.html", topic=stats, groups=groups, rows=rows)


@page.post("/events/{topic}/replay")
def replay(view: View) -> Response:
    """Have one group read again what it has read, from a time on."""
    topic, group = _topic(view), view.sent("group")
    start, end = _instant(view.sent("start"), "From"), _instant(view.sent("end"), "Until")
    record(view, "events.replay", topic, group=group, start=view.sent("start"), end=view.sent("end"))
    count = view.site.app.events.replay(topic, group, start or "earliest", end)
    return view.redirect(f"/events/{topic}", f"{group} reads {number(count)} events again")


def _topic(view: View) -> str:
    return check_name(view.path("topic"), "a topic's name")


def _instant(text: str, what: str) -> datetime | None:
    """An instant in UTC from a form; None for an empty field."""
    if not text.strip():
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise ConfigError(f"{what} must be a time such as 2026-03-01T14:30") from None
