"""Queues that do not move: nobody reads them, they are paused, they grow."""

from __future__ import annotations

from collections.abc import Iterator

from taskq.broker.views.inspect import QueueStats
from taskq.broker.views.unknown import Unknown, first_delayed
from taskq.observe.doctor.finding import Finding, error, note, warning
from taskq.observe.doctor.patient import MOST_QUEUES, Patient
from taskq.values.config import FIFO

OLD = 600.0
"""Seconds that the oldest message may have waited."""
OVERDUE = 60.0
"""Seconds that a delayed message may be late."""
MANY_DEAD, MANY_LATELY = 10_000, 100
"""Dead letters of one queue, in all and in the last hour."""
UNKNOWN_SAMPLED, UNKNOWN_LONG = 200, 60.0
"""Delayed messages looked at; seconds that a task may be unknown, as during a deploy."""
HOUR_MS = 3_600_000


def check(patient: Patient) -> Iterator[Finding]:
    """Look at the counts of each queue."""
    for queue in patient.queues:
        yield from _unread(queue)
        yield from _paused(patient, queue)
        yield from _overdue(patient, queue)
        yield from _dead(patient, queue)
        yield from _unknown(patient, queue)
    total = len(patient.app.known_queues())
    if total > MOST_QUEUES:
        yield note(
            "backlog.queues", f"only {MOST_QUEUES} of {total} queues were looked at", "ask for a narrower namespace"
        )


def _unread(queue: QueueStats) -> Iterator[Finding]:
    if not queue.needs_workers:
        yield from _unread_items(queue)
    elif queue.backlog and not queue.workers and not queue.paused:
        yield error(
            "backlog.unread",
            f"queue {queue.queue}: {queue.backlog} messages, and no worker reads it",
            f"start one: taskq worker -A ... -Q {queue.queue}",
        )
    elif queue.oldest_age is not None and queue.oldest_age > OLD and not queue.paused:
        yield warning(
            "backlog.old",
            f"queue {queue.queue}: the oldest of {queue.lag} messages waits for {queue.oldest_age / 60:.0f} minutes",
            "add workers or slots, or look for tasks that hang: taskq workers --running",
        )


def _unread_items(queue: QueueStats) -> Iterator[Finding]:
    """Items may wait for a program that is not always there; only for how long is of interest."""
    if queue.oldest_age is not None and queue.oldest_age > OLD and not queue.paused:
        name = queue.queue.removeprefix(FIFO)
        yield warning(
            "backlog.old",
            f"FIFO {name}: the oldest of {queue.lag} items waits for {queue.oldest_age / 60:.0f} minutes, with "
            f"{queue.workers} consumers",
            f"start the program that calls app.queue({name!r}).get(), or more of it",
        )


def _paused(patient: Patient, queue: QueueStats) -> Iterator[Finding]:
    if queue.paused:
        since = patient.ask("GET", patient.keys.queue(queue.queue).paused) or b"0"
        hours = max(patient.now_ms - int(since), 0) / HOUR_MS if since.isdigit() else 0.0
        yield warning(
            "backlog.paused",
            f"queue {queue.queue} is paused since {hours:.1f} h, with {queue.lag} messages waiting",
            f"taskq resume {queue.queue}",
        )


def _overdue(patient: Patient, queue: QueueStats) -> Iterator[Finding]:
    if not queue.delayed or not queue.workers:
        return
    head = patient.ask("ZRANGE", patient.keys.queue(queue.queue).delayed, 0, 0, "WITHSCORES")
    late = (patient.now_ms - float(head[1])) / 1000 if head else 0.0
    if late > OVERDUE:
        yield warning(
            "backlog.overdue",
            f"queue {queue.queue}: a delayed message is due for {late:.0f} s and was not moved into its queue",
            "its workers hang, or cannot run scripts: look at their logs",
        )


def _unknown(patient: Patient, queue: QueueStats) -> Iterator[Finding]:
    """Messages that wait because no worker that had them knows their task."""
    if not queue.delayed:
        return
    unknown = Unknown()
    unknown.add(patient.ask(*first_delayed(patient.keys.queue(queue.queue), UNKNOWN_SAMPLED)))
    if unknown.tasks:
        longest = (patient.now_ms - unknown.since_ms) / 1000
        grave = error if longest > UNKNOWN_LONG else warning
        names = ", ".join(f"{name} ({count})" for name, count in unknown.tasks.most_common(5))
        yield grave(
            "backlog.unknown",
            f"queue {queue.queue}: {unknown.tasks.total()} of {unknown.looked_at} delayed messages looked at are of "
            f"tasks that no worker of it knew, for up to {longest:.0f} s: {names}",
            "start a worker whose app has these tasks; after unknown_task_timeout they are dead letters, and taskq dlq "
            "replay --as NEW_NAME gives them another name",
        )


def _dead(patient: Patient, queue: QueueStats) -> Iterator[Finding]:
    if not queue.dead:
        return
    after = b"%d" % (patient.now_ms - HOUR_MS)
    lately = len(patient.ask("XRANGE", patient.keys.queue(queue.queue).dead, after, "+", "COUNT", MANY_LATELY))
    remedy = f"taskq dlq list --queue {queue.queue}; then replay or purge"
    if lately >= MANY_LATELY:
        yield warning(
            "backlog.dead", f"queue {queue.queue}: {MANY_LATELY} or more dead letters in the last hour", remedy
        )
    elif queue.dead >= MANY_DEAD:
        yield warning("backlog.dead", f"queue {queue.queue}: {queue.dead} dead letters; they stay until purged", remedy)
    else:
        yield note("backlog.dead", f"queue {queue.queue}: {queue.dead} dead letters", remedy)
