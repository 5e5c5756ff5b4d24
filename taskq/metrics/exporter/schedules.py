"""Schedules: what should have fired, and what comes next."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client.core import Metric

from taskq.errors import BrokerError, ScheduleError
from taskq.metrics.catalogue import Row, gauges
from taskq.metrics.exporter.subject import Moment, Steps
from taskq.schedule import Schedule
from taskq.schedules.definition import Definition
from taskq.schedules.registry import load_commands, snapshot_of, state_commands, states_of
from taskq.schedules.views import ScheduleInfo, info


class ScheduleSubject:
    """The gauges of every schedule that a beat has registered."""

    def read(self, moment: Moment) -> Steps:
        keys, ns = moment.keys, moment.keys.namespace
        replies = yield load_commands(keys)
        refused = next((reply for reply in replies if isinstance(reply, BrokerError)), None)
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


def _when(definition: Definition) -> Schedule | None:
    try:
        return definition.schedule()
    except ScheduleError:
        return None  # of a newer release


def _metrics(schedules: Sequence[ScheduleInfo], ns: str) -> list[Metric]:
    rows: dict[str, list[Row]] = {
        "overdue_seconds": [((one.name,), one.overdue) for one in schedules],
        "paused": [((one.name,), float(one.paused)) for one in schedules],
        "held": [((one.name,), one.held) for one in schedules],
        "next_fire_time_seconds": [((one.name,), one.next_fire.timestamp()) for one in schedules if one.next_fire],
        "last_fire_time_seconds": [((one.name,), one.last_fire.timestamp()) for one in schedules if one.last_fire],
        "last_lateness_seconds": [((one.name,), one.lateness) for one in schedules if one.last_fire],
    }
    return [gauges(f"taskq_schedule_{name}", ns, values) for name, values in rows.items()]
