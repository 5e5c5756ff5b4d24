"""Schedules: what should have fired, and what comes next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from prometheus_client.core import Metric

from taskq.broker.link.replies import is_wrongtype
from taskq.client.schedules.definition import Definition
from taskq.client.schedules.registry import RUNTIME, load_commands, snapshot_of, state_commands, states_of
from taskq.client.schedules.views import STATES, ScheduleInfo, info
from taskq.errors import BrokerError, ScheduleError
from taskq.observe.metrics.catalogue import MOST_SCHEDULES, OTHER, gauges
from taskq.observe.metrics.exporter.subject import Moment, Steps
from taskq.values.schedule import Schedule


class ScheduleSubject:
    """The gauges of every schedule that a beat has registered; beyond :data:`MOST_SCHEDULES` they share one label."""

    def read(self, moment: Moment) -> Steps:
        keys, ns = moment.keys, moment.keys.namespace
        replies = yield load_commands(keys)
        refused = next((reply for reply in replies if isinstance(reply, BrokerError) and not is_wrongtype(reply)), None)
        if refused is not None:
            raise refused
        snapshot = snapshot_of(replies)
        known = list(snapshot.registered.values())
        states = states_of((yield state_commands(keys, [one.definition for one in known])))
        schedules = [
            info(one, state, _when(one.definition), now_ms=snapshot.now_ms, beats=snapshot.beats)
            for one, state in zip(known, states, strict=True)
        ]
        return [*_metrics(schedules, ns), gauges("taskq_beats", ns, [((), len(snapshot.beats))])]


_GAUGES: dict[str, tuple[Callable[[ScheduleInfo], float | None], Callable[[list[float]], float]]] = {
    "overdue_seconds": (lambda one: one.overdue, max),
    "paused": (lambda one: float(one.paused), sum),
    "held": (lambda one: one.held, sum),
    "next_fire_time_seconds": (lambda one: one.next_fire.timestamp() if one.next_fire else None, min),
    "last_fire_time_seconds": (lambda one: one.last_fire.timestamp() if one.last_fire else None, max),
    "last_lateness_seconds": (lambda one: one.lateness if one.last_fire else None, max),
}
"""What is shown of one schedule (None: nothing), and of several that share a label."""


def _when(definition: Definition) -> Schedule | None:
    try:
        return definition.schedule()
    except ScheduleError:
        return None  # of a newer release


def _metrics(schedules: Sequence[ScheduleInfo], ns: str) -> list[Metric]:
    # those of code first: how many there are is up to the code, and not to the users of the app
    ranked = sorted(schedules, key=lambda one: (one.source == RUNTIME, one.name))
    labels = {one.name: one.name if place < MOST_SCHEDULES else OTHER for place, one in enumerate(ranked)}
    states = Counter(one.state for one in schedules)
    found = [gauges("taskq_schedules", ns, [((state,), states[state]) for state in STATES])]
    for name, (value, together) in _GAUGES.items():
        rows: dict[str, list[float]] = {}
        for one in schedules:
            if (sample := value(one)) is not None:
                rows.setdefault(labels[one.name], []).append(sample)
        found.append(gauges(f"taskq_schedule_{name}", ns, [((label,), together(rows[label])) for label in rows]))
    return found
