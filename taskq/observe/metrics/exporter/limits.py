"""Rate limits: how many messages of each task wait for theirs."""

from __future__ import annotations

from taskq.observe.metrics.catalogue import gauges
from taskq.observe.metrics.exporter.subject import Moment, Steps

MOST = 1000
"""Tasks that are shown."""


class LimitSubject:
    """The tasks that messages have waited for since the exporter's start, so that the last value is a 0."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()

    def read(self, moment: Moment) -> Steps:
        replies = yield [("SMEMBERS", moment.keys.queue(name).limited) for name in moment.queues]
        for queue, reply in zip(moment.queues, replies, strict=True):
            for task in reply if isinstance(reply, list) else ():
                if len(self._seen) < MOST:
                    self._seen.add((queue, task.decode(errors="replace")))
        shown = sorted(self._seen)
        if not shown:
            return [gauges("taskq_rate_limit_waiting", moment.keys.namespace, [])]
        waiting = yield [("LLEN", moment.keys.queue(queue).parked(task)) for queue, task in shown]
        rows = [(labels, count) for labels, count in zip(shown, waiting, strict=True) if isinstance(count, int)]
        return [gauges("taskq_rate_limit_waiting", moment.keys.namespace, rows)]
