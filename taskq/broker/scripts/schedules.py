"""A typed builder for every script that has to do with schedules; see :mod:`taskq.broker.scripts`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from taskq.broker.calls import Arg, Call, load
from taskq.broker.keys import QueueKeys, ScheduleKeys
from taskq.broker.scripts import SENT_TTL_MS
from taskq.values.message import DEFAULT_PRIORITY

RETIRED_TTL_MS = 86_400_000
"""How long a queue remembers that a schedule has left it: far longer than any beat goes on without looking."""

FIRE = load("fire")
DEFINE = load("define")
UNDEFINE = load("undefine")
ATTEND = load("attend")
ARM = load("arm")
RETIRE = load("retire")
SUSPEND = load("suspend")

NOT_ARMED, PAUSED, FIRED_BEFORE, FIRED, HELD, SKIPPED = -2, -1, 0, 1, 2, 3
"""What the fire script answers."""


class Firing(NamedTuple):
    """What the fire script is told of one fire time, or of a run by hand. Times are epoch milliseconds."""

    schedule: str
    revision: int | None
    """None: by hand."""
    fire_time_ms: int
    task_id: str
    level: int
    message: bytes
    planned_ms: int = 0
    """When it was to happen: the fire time and its jitter."""
    overlap: str = "allow"
    max_held: int = 1
    history: int = 0
    """Most fire times in the history."""
    last_ms: int | None = None
    """The last fire time that the caller knows of."""
    missed: int = 0
    """How many fire times lie between that one and this, which nobody fires."""


def fire(keys: QueueKeys, firing: Firing, remember_ms: int = SENT_TTL_MS) -> Call:
    """The message of one fire time; answers ``[what became of it, last fire time ms]``.

    1 fired, 2 held back, 3 skipped, 0 fired before, -1 paused, -2 not armed with this revision (by hand: it
    has left this queue).
    """
    name = firing.schedule
    all_keys = [keys.schedule(name), keys.fires(name), keys.held(name), keys.levels, keys.revoked, keys.delayed]
    all_keys += [keys.limited, keys.holding]
    if firing.revision is None:
        all_keys.append(keys.sent(firing.task_id))
    args: tuple[Arg, ...] = (
        "" if firing.revision is None else firing.revision,
        firing.fire_time_ms,
        firing.planned_ms or firing.fire_time_ms,
        firing.task_id,
        firing.level,
        firing.message,
        firing.overlap,
        firing.max_held,
        2 * firing.history,
        "" if firing.last_ms is None else firing.last_ms,
        firing.missed,
        keys.prefix,
        str(DEFAULT_PRIORITY),
        keys.wake,
        name,
        remember_ms,
    )
    return Call(FIRE, all_keys, args)


class Defining(NamedTuple):
    """What the define script is told of a schedule."""

    schedule: str
    revision: str
    """Hash of all of it."""
    timing: str
    """Hash of when it fires."""
    queue: str
    packed: bytes
    source: str
    app: str = ""
    """Whose code it is."""


def define(keys: ScheduleKeys, definition: Defining, now_ms: int | None, patience_ms: int) -> Call:
    """Register a definition; *now_ms* None asks Redis.

    Answers ``[1, number, ms since when its timing holds, earlier queues ...]``, or ``[0 or -1, number]`` when refused.
    """
    name, revision, timing, queue, packed, source, app = definition
    now: Arg = "" if now_ms is None else now_ms
    all_keys = (keys.definitions, keys.revisions, keys.number, keys.confirmed, keys.changes)
    return Call(DEFINE, all_keys, (name, revision, queue, packed, source, timing, now, patience_ms, keys.wake, app))


def undefine(keys: ScheduleKeys, name: str, number: int) -> Call:
    """Forget a definition; answers 1, or 0 when there is a newer one."""
    all_keys = (keys.definitions, keys.revisions, keys.number, keys.confirmed, keys.changes)
    return Call(UNDEFINE, all_keys, (name, number, keys.wake))


def attend(keys: ScheduleKeys, beat: str, lease_ms: int | None, held: Sequence[str]) -> Call:
    """A beat is alive (None: it stops); *held* alternates schedule and revision hash.

    Answers ``[last revision number, beats alive, schedules of which another definition stands ...]``.
    """
    all_keys = (keys.beats, keys.revisions, keys.number, keys.confirmed)
    return Call(ATTEND, all_keys, (beat, "" if lease_ms is None else lease_ms, *held))


def arm(keys: QueueKeys, name: str, number: int, begin_ms: int, floor_ms: int, paused: bool = False) -> Call:
    """Let a revision fire from this queue; answers ``[1, last fire time ms, 1 when paused]`` or ``[0]``.

    Fire times are dealt with up to *begin_ms* where nothing is known, and up to *floor_ms* where the revision is new.
    """
    return Call(ARM, (keys.schedule(name), keys.fires(name)), (number, begin_ms, floor_ms, int(paused)))


def retire(keys: QueueKeys, name: str, number: int, outcome: bytes = b"", ttl_ms: int = 1) -> Call:
    """Let no revision up to this one fire here any more.

    What it holds back ends with *outcome*, kept for *ttl_ms*; without one it is sent as if the schedule were still
    here. Answers ``[last fire time ms, 1 when paused, messages that have ended so]``; ``[]`` when a newer one is here.
    """
    own = (keys.schedule(name), keys.fires(name), keys.held(name))
    all_keys = (*own, keys.levels, keys.delayed, keys.limited, keys.waiting, keys.holding)
    queue = (keys.prefix, name, str(DEFAULT_PRIORITY), keys.wake)
    return Call(RETIRE, all_keys, (number, RETIRED_TTL_MS, *queue, outcome, ttl_ms))


def suspend(keys: QueueKeys, name: str, pause: bool, wake: bytes) -> Call:
    """Pause a schedule or let it go on; answers 1 changed, 0 it was so, -1 it has moved to another queue."""
    return Call(SUSPEND, (keys.schedule(name),), (int(pause), wake))
