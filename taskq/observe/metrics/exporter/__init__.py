"""What is in Redis, read when Prometheus scrapes: one collector, with one :class:`Subject` per kind of thing.

A subject asks in steps, and each step of all subjects goes to Redis together. So a scrape takes as many round trips
as the subject with the most steps, however many queues there are and however many subjects. To add one, write a
module with a :class:`Subject` and list it in :data:`SUBJECTS`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client.core import CollectorRegistry, Metric

from taskq.broker.views.survey import read_names
from taskq.client.app import TaskQ
from taskq.errors import BrokerError
from taskq.observe.metrics.catalogue import CATALOGUE, EXPORTER, counters, gauges
from taskq.observe.metrics.exporter.limits import LimitSubject
from taskq.observe.metrics.exporter.queues import QueueSubject
from taskq.observe.metrics.exporter.schedules import ScheduleSubject
from taskq.observe.metrics.exporter.server import ServerSubject
from taskq.observe.metrics.exporter.subject import Moment, Steps, Subject
from taskq.observe.metrics.exporter.topics import TopicSubject
from taskq.observe.metrics.exporter.workers import WorkerSubject

logger = logging.getLogger("taskq.metrics")

SCRAPE_DEADLINE = 3.0
"""Seconds for all of one scrape: below Prometheus's own limit of 10, so that an outage is seen as one."""
SUBJECTS: Sequence[type[Subject]] = (
    QueueSubject, LimitSubject, WorkerSubject, ScheduleSubject, TopicSubject, ServerSubject,
)  # fmt: skip


class Exporter:
    """A Prometheus collector of what is in Redis.

    Args:
        app: whose namespace is read; every queue that Redis knows there is included.
        registry: where the metrics appear. None: nowhere by itself.
    """

    def __init__(self, app: TaskQ, registry: CollectorRegistry | None = None) -> None:
        self._app = app
        self._subjects = [subject() for subject in SUBJECTS]
        if registry is not None:
            registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """The metrics without samples, so that registering does not need Redis."""
        for spec in CATALOGUE:
            if spec.place == EXPORTER:
                yield (counters if spec.kind == "counter" else gauges)(spec.name, "", [])

    def collect(self) -> Iterator[Metric]:
        """Read everything; without Redis only ``taskq_up 0``."""
        began, reads = time.monotonic(), _Reads(self._app)
        up = 1
        try:
            yield from self._read(reads)
        except BrokerError as error:
            logger.warning("cannot read Redis: %s", error)
            up = 0
        ns = self._app.keys.namespace
        yield gauges("taskq_up", ns, [((), up)])
        yield gauges("taskq_scrape_seconds", ns, [((), time.monotonic() - began)])
        yield gauges("taskq_scrape_round_trips", ns, [((), reads.count)])

    def _read(self, reads: _Reads) -> list[Metric]:
        app = self._app
        now, names = read_names(reads.pipeline, app.keys)
        own = {task.settings.queue for task in app.tasks.values()}
        moment = Moment(app.keys, now, sorted(own.union(names)))
        return _together([subject.read(moment) for subject in self._subjects], reads)


class _Reads:
    """Round trips of one scrape."""

    def __init__(self, app: TaskQ) -> None:
        self._broker = app.sync_broker
        self._deadline = time.monotonic() + SCRAPE_DEADLINE
        self.count = 0

    def pipeline(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        if not commands:
            return []
        self.count += 1
        return self._broker.pipeline(commands, deadline=max(self._deadline - time.monotonic(), 0.0))


def _together(subjects: Sequence[Steps], reads: _Reads) -> list[Metric]:
    """Run all subjects, each step of all of them in one round trip. One that fails is left out."""
    found: list[Metric] = []
    waiting: list[tuple[Steps, list[Any] | None]] = [(steps, None) for steps in subjects]
    while waiting:
        asking: list[tuple[Steps, Sequence[Sequence[Any]]]] = []
        for steps, replies in waiting:
            try:
                asking.append((steps, steps.send(replies)))  # type: ignore[arg-type]
            except StopIteration as end:
                found += end.value
            except Exception:  # keys of another kind under our names, say: the rest is still worth showing
                logger.exception("a part of the metrics cannot be read")
        answers = iter(reads.pipeline([command for _, commands in asking for command in commands]) if asking else ())
        waiting = [(steps, [next(answers) for _ in commands]) for steps, commands in asking]
    return found
