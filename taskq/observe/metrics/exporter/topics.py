"""Topics and their groups: what was published, and who has not read it yet."""

from __future__ import annotations

from prometheus_client.core import Metric

from taskq.broker.views.inspect import count_of
from taskq.broker.views.topics import GroupStats, read_steps
from taskq.observe.metrics.catalogue import Row, counters, gauges
from taskq.observe.metrics.exporter.subject import Moment, Steps


class TopicSubject:
    """The numbers of every topic and group."""

    def read(self, moment: Moment) -> Steps:
        keys, ns = moment.keys, moment.keys.namespace
        (names,) = yield [("SMEMBERS", keys.topics)]
        topics = sorted(name.decode(errors="replace") for name in names) if isinstance(names, list) else []
        counted = yield [
            command
            for topic in topics
            for command in (("HGET", keys.topic(topic).state, "total"), ("XLEN", keys.topic(topic).events))
        ]
        published: list[Row] = [((topic,), _number(total)) for topic, total in zip(topics, counted[::2], strict=True)]
        kept: list[Row] = [((topic,), _number(length)) for topic, length in zip(topics, counted[1::2], strict=True)]
        groups = yield from read_steps(keys, topics, moment.now)
        return [
            counters("taskq_topic_published_total", ns, published),
            gauges("taskq_topic_kept", ns, kept),
            *_of_groups(groups, ns),
        ]


def _of_groups(groups: list[GroupStats], ns: str) -> list[Metric]:
    values: dict[str, list[float]] = {
        "lag": [group.lag for group in groups],
        "pending": [group.pending for group in groups],
        "delayed": [group.delayed for group in groups],
        "dead": [group.dead for group in groups],
        "workers": [group.workers for group in groups],
        "age_seconds": [group.age or 0.0 for group in groups],
    }
    names = [(group.topic, group.group) for group in groups]
    trimmed: list[Row] = [((group.topic, group.group), group.trimmed) for group in groups]
    return [
        *(gauges(f"taskq_group_{name}", ns, zip(names, column, strict=True)) for name, column in values.items()),
        counters("taskq_group_trimmed_unread_total", ns, trimmed),
    ]


def _number(reply: object) -> int:
    return count_of(reply)
