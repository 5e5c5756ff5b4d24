"""Events: topics, and the groups that read them."""

from __future__ import annotations

from grafana.generator.expressions import NS, RATE
from grafana.generator.panels import Json, graph, line, ns_variable, numbers, queue_variable, row, stat
from grafana.generator.panels import dashboard as whole


def group(name: str) -> str:
    """A gauge per group."""
    return f"max by (topic, group) (taskq_group_{name}{{{NS}}})"


def dashboard() -> Json:
    """Who publishes, who reads, who falls behind."""
    published = f"max by (topic) (rate(taskq_topic_published_total{{{NS}}}{RATE}))"
    trimmed = f"taskq_group_trimmed_unread_total{{{NS}}}"
    kept = f"max by (topic) (taskq_topic_kept{{{NS}}})"
    by_group, by_topic = {"legend": "{{topic}} {{group}}"}, {"legend": "{{topic}}"}
    return whole(
        "events",
        "events",
        "Topics, and the groups that read them: who publishes, who falls behind, what was lost.",
        [ns_variable(), queue_variable()],
        [
            row("Now"),
            numbers(
                stat("Published", f"sum({published})", "Events per second, of all topics.", unit="ops"),
                stat("Behind", f"sum({group('lag')})", "Events that no worker of a group has yet."),
                stat("Oldest unread", f"max({group('age_seconds')})", "Of all groups.", unit="s"),
                stat("Trimmed unread", f"sum(max by (topic, group) ({trimmed}))", "Lost to a group.", bad_from=1),
                stat("Dead letters", f"sum({group('dead')})", "Of all groups.", bad_from=1),
            ),
            row("Topics"),
            line(
                graph("Published", published, "Events per second.", unit="ops", **by_topic),
                graph("Kept", kept, "Events that can still be read.", **by_topic),
            ),
            row("Groups"),
            line(
                graph("Lag", group("lag"), "Events that no worker of the group has yet.", **by_group),
                graph("Age", group("age_seconds"), "Of the oldest of them.", unit="s", **by_group),
                graph("Workers", group("workers"), "With a lease; a group with none reads nothing.", **by_group),
            ),
            line(
                graph("Pending", group("pending"), "Delivered, not settled.", **by_group),
                graph("Delayed", group("delayed"), "Waiting for a retry.", **by_group),
                graph(
                    "Trimmed unread",
                    f"max by (topic, group) (increase({trimmed}{RATE}))",
                    "Events that the topic's limits dropped before the group saw them.",
                    **by_group,
                ),
            ),
        ],
    )
