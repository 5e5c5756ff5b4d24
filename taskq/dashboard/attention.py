"""What a person should look at: one line for each cause, the worst first."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from taskq.broker.views.inspect import QueueStats
from taskq.dashboard.read.queues import QueueSample
from taskq.dashboard.render import age, number
from taskq.dashboard.watch import Seen

OLD = 60.0
"""Seconds that the oldest message may wait before the overview points at it."""
FAILING = 0.1
"""Failures a second from which a queue is pointed at."""
NAMED = 3
"""Names in one line, at most."""


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that is not as it should be."""

    kind: str
    """``bad`` or ``warn``."""
    text: str
    path: str
    hint: str = ""
    """What to do."""


def attention(samples: Sequence[QueueSample], seen: Seen) -> list[Attention]:
    """What is not as it should be, the worst first."""
    found = [
        *_workers(samples, seen),
        *_unknown(seen),
        *_schedules(seen),
        *_queues(samples),
        *_dead_letters(samples, seen),
    ]
    return sorted(found, key=lambda item: item.kind)


def _workers(samples: Sequence[QueueSample], seen: Seen) -> Iterator[Attention]:
    """No worker, or dead ones: one cause, however many queues feel it."""
    unread = [one.stats for one in samples if _unread(one.stats)]
    waiting = sum(stats.lag for stats in unread)
    dead = _died(seen)
    if unread and not seen.alive:
        text = f"No worker runs: {_messages(waiting)} in {_queues_named(unread)}"
        yield Attention("bad", f"{text}; {dead}" if dead else text, "/workers", "taskq worker -A module:app")
        return
    if unread:
        verb = "waits" if waiting == 1 else "wait"
        text = f"No worker reads {_queues_named(unread)}: {_messages(waiting)} {verb}"
        path = f"/queues/{unread[0].queue}" if len(unread) == 1 else "/queues"
        yield Attention("bad", text, path, "taskq worker -A module:app -Q " + ",".join(s.queue for s in unread[:NAMED]))
    if dead:
        yield Attention("warn" if seen.alive else "bad", dead, "/workers", "look at what they ran last")


def _died(seen: Seen) -> str:
    dead = seen.dead
    if not dead:
        return ""
    names = _named([worker.name.rpartition(":")[0] or worker.name for worker in dead])
    text = "1 worker is" if len(dead) == 1 else f"{number(len(dead))} workers are"
    return f"{text} late or dead, {'' if len(dead) == 1 else 'the last '}since {age(-dead[0].lease_left)}: {names}"


def _unknown(seen: Seen) -> Iterator[Attention]:
    tasks = seen.unknown.tasks
    if tasks:
        since = age(max(time.time() - seen.unknown.since_ms / 1000, 0.0))
        text = f"No worker knows {_named([name for name, _ in tasks.most_common()])}: messages wait for {since}"
        hint = "start a worker whose app has these tasks, before they become dead letters"
        yield Attention("bad", text, "/messages", hint)


def _schedules(seen: Seen) -> Iterator[Attention]:
    count = len(seen.schedules)
    if count and not seen.beats:
        text = f"No beat runs: {number(count)} schedule{' does' if count == 1 else 's do'} not fire"
        yield Attention("bad", text, "/schedules", "taskq beat -A module:app, or taskq worker -B")
        return
    if overdue := seen.overdue:
        names = _named([info.name for info in overdue])
        text = f"{number(len(overdue))} schedule{' is' if len(overdue) == 1 else 's are'} overdue: {names}"
        yield Attention("bad", f"{text}, for {age(overdue[0].overdue)}", "/schedules", "does a beat run their code?")


def _queues(samples: Sequence[QueueSample]) -> Iterator[Attention]:
    failing = [one for one in samples if one.failures > FAILING]
    if failing:
        rate = sum(one.failures for one in failing) * 60
        text = f"{rate:.0f} failures a minute in {_queues_named([one.stats for one in failing])}"
        yield Attention("bad", text, "/dlq", "look at the dead letters")
    old = [one.stats for one in samples if (one.stats.oldest_age or 0.0) > OLD and not one.stats.paused]
    old = sorted((stats for stats in old if not _unread(stats)), key=lambda stats: -(stats.oldest_age or 0.0))
    if old:
        text = f"The oldest message in {_queues_named(old)} waits for {age(old[0].oldest_age)}"
        yield Attention("warn", text, _path(old), "add workers or slots")
    if paused := [one.stats for one in samples if one.stats.paused]:
        text = f"{_queues_named(paused)} {'is' if len(paused) == 1 else 'are'} paused"
        backlog = sum(stats.backlog for stats in paused)
        yield Attention("warn", f"{text}, with {_messages(backlog)}", _path(paused))


def _dead_letters(samples: Sequence[QueueSample], seen: Seen) -> Iterator[Attention]:
    dead = sum(one.stats.dead for one in samples)
    if dead:
        new = min(seen.failed_lately, dead)
        text = f"{number(dead)} dead letter{'' if dead == 1 else 's'}"
        lately = f", {number(new)} new in the last hour" if new else ", none new in the last hour"
        yield Attention("warn", text + lately, "/dlq", "replay or purge them")


def _unread(stats: QueueStats) -> bool:
    return bool(stats.lag and not stats.workers and not stats.paused and stats.needs_workers)


def _path(queues: Sequence[QueueStats]) -> str:
    return f"/queues/{queues[0].queue}" if len(queues) == 1 else "/queues"


def _messages(count: int) -> str:
    return f"{number(count)} message{'' if count == 1 else 's'}"


def _queues_named(queues: Sequence[QueueStats]) -> str:
    names = [stats.queue for stats in queues]
    return names[0] if len(names) == 1 else f"{number(len(names))} queues ({_named(names)})"


def _named(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {number(more)} more" if more > 0 else "")
