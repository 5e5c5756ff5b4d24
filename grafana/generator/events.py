"""Events: topics, and the groups that read them."""

from __future__ import annotations

from grafana.generator.expressions import NS, RATE
from grafana.generator.panels import Json, Line, graph, line, ns_variable, numbers, queue_variable, row, stat
from grafana.generator.panels import dashboard as whole


def group(name: str) -> str:
    """A gauge per group."""
    return f"max by (topic, group) (taskq_group_{name}{{{NS}}})"


PUBLISHED = f"max by (topic) (rate(taskq_topic_published_total{{{NS}}}{RATE}))"
TRIMMED = f"taskq_group_trimmed_unread_total{{{NS}}}"
KEPT = f"max by (topic) (taskq_topic_kept{{{NS}}})"
BY_GROUP = {"legend": "{{topic}} {{group}}"}
BY_TOPIC = {"legend": "{{topic}}"}


def dashboard() -> Json:
    """Who publishes, who reads, who falls behind."""
    return whole(
        "events",
        "events",
        "Topics, and the groups that read them: who publishes, who falls behind, what was lost.",
        [ns_variable(), queue_variable()],
        [*_now(), *_topics(), *_groups()],
    )


def _now() -> list[Line]:
    return [
        row("Now"),
        numbers(
            stat("Published", f"sum({PUBLISHED})", "Events per second, of all topics.", unit="ops"),
            stat("Behind", f"sum({group('lag')})", "Events that no worker of a group has yet."),
            stat("Oldest unread", f"max({group('age_seconds')})", "Of all groups.", unit="s"),
            stat("Trimmed unread", f"sum(max by (topic, group) ({TRIMMED}))", "Lost to a group.", bad_from=1),
            stat("Dead letters", f"sum({group('dead')})", "Of all groups.", bad_from=1),
        ),
    ]


def _topics() -> list[Line]:
    return [
        row("Topics"),
        line(
            graph("Published", PUBLISHED, "Events per second.", unit="ops", **BY_TOPIC),
            graph("Kept", KEPT, "Events that can still be read.", **BY_TOPIC),
        ),
    ]


def _groups() -> list[Line]:
    return [
        row("Groups"),
        line(
            graph("Lag", group("lag"), "Events that no worker of the group has yet.", **BY_GROUP),
            graph("Age", group("age_seconds"), "Of the oldest of them.", unit="s", **BY_GROUP),
            graph("Workers", group("workers"), "With a lease; a group with none reads nothing.", **BY_GROUP),
        ),
        line(
            graph("Pending", group("pending"), "Delivered, not settled.", **BY_GROUP),
            graph("Delayed", group("delayed"), "Waiting for a retry.", **BY_GROUP),
            graph(
                "Trimmed unread",
                f"max by (topic, group) (increase({TRIMMED}{RATE}))",
                "Events that the topic's limits dropped before the group saw them.",
                **BY_GROUP,
            ),
        ),
    ]
