"""Workers and beats: releases and leases that differ, workers without a record, schedules without a beat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from taskq.broker.views.workers import WorkerRecord
from taskq.client.schedules.views import OVERDUE, ScheduleInfo
from taskq.observe.doctor.finding import Finding, error, note, warning
from taskq.observe.doctor.patient import Patient


def check(patient: Patient) -> Iterator[Finding]:
    """Compare the workers' records, and look for beats."""
    from taskq import __version__

    records = [worker.record for worker in patient.workers if worker.alive and worker.record is not None]
    versions = Counter(record.version for record in records)
    if len(versions) > 1:
        counts = ", ".join(f"{count} with {version}" for version, count in sorted(versions.items()))
        yield warning(
            "fleet.versions",
            f"workers run different releases of taskq: {counts}",
            "fine during a deploy; afterwards restart those that were left behind",
        )
    elif versions and __version__ not in versions:
        yield note(
            "fleet.versions",
            f"the workers run taskq {next(iter(versions))}, this command is {__version__}",
            "use the same",
        )
    leases = Counter(record.lease_ms for record in records)
    if len(leases) > 1:
        seconds = ", ".join(f"{ms / 1000:g} s" for ms in sorted(leases))
        yield warning(
            "fleet.leases", f"workers have different leases: {seconds}", "give all of them the same lease_timeout"
        )
    silent = [worker.name for worker in patient.workers if worker.alive and worker.record is None]
    if silent:
        yield note(
            "fleet.silent",
            f"{len(silent)} workers have a lease and no record: {', '.join(silent[:5])}",
            "they have just started, or run an older release",
        )
    yield from _apps(records)
    yield from _schedules(patient)


def _apps(records: Sequence[WorkerRecord]) -> Iterator[Finding]:
    """Workers of several apps that read one queue hand its messages to and fro until the right one has them."""
    readers: dict[str, set[str]] = {}
    for record in records:
        for queue in record.queues:
            readers.setdefault(queue, set()).add(record.app)
    shared = {queue: apps for queue, apps in readers.items() if len(apps) > 1}
    if shared:
        queue, apps = min(shared.items())
        yield warning(
            "fleet.apps",
            f"workers of different apps read the same queues: {', '.join(sorted(apps)[:5])} all read {queue}"
            f"{f', and {len(shared) - 1} more queues are shared' if len(shared) > 1 else ''}",
            "give each app a namespace, or a task_default_queue, of its own",
        )


def _schedules(patient: Patient) -> Iterator[Finding]:
    keys = patient.keys.schedules
    defined = patient.ask("HLEN", keys.definitions)
    if not defined:
        return
    if not patient.ask("ZCOUNT", keys.beats, patient.now_ms, "+inf"):
        yield error(
            "fleet.beat",
            f"{defined} schedules are defined, and no beat is alive to fire them",
            "start one: taskq beat -A ..., or taskq worker -B",
        )
        return
    known = patient.app.schedules.list()
    overdue = [one for one in known if one.overdue > OVERDUE]
    if overdue:
        longest = max(one.overdue for one in overdue)
        yield error(
            "fleet.overdue",
            f"{len(overdue)} schedules should have fired, up to {longest / 60:.0f} minutes ago: {_named(overdue)}",
            "does a beat run that has their code? Look at its log, and at taskq schedule list",
        )
    retired = [one for one in known if one.retired]
    if retired:
        yield note(
            "fleet.retired",
            f"{len(retired)} schedules were taken out of the code, and fire no more: {_named(retired)}",
            "nothing, if that was meant: beats forget them after 7 days, taskq schedule remove does so now",
        )


def _named(schedules: Sequence[ScheduleInfo]) -> str:
    more = f" and {len(schedules) - 5} more" if len(schedules) > 5 else ""
    return ", ".join(one.name for one in schedules[:5]) + more
