"""What can be seen of a schedule: its state, and what became of its last fire times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from taskq.client.schedules.registry import Registered, State
from taskq.values.schedule import Schedule
from taskq.values.schedule.base import EPOCH

OVERDUE = 60.0
"""Seconds that a fire time may wait for a beat before views and alerts call it overdue."""
STATES = ("on", "paused", "no beat", "overdue", "retired", "ended")

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class ScheduleInfo:
    """One schedule at one moment. Instants are in UTC."""

    name: str
    task: str
    spec: str
    """When it fires, in one line."""
    zone: str
    """The time zone of its cron line; that of the setting ``timezone`` where it has none."""
    queue: str
    source: str
    """``code``, ``config`` or ``runtime``."""
    paused: bool
    last_fire: datetime | None
    """The last fire time that was fired."""
    fired_at: datetime | None
    """When that happened."""
    lateness: float
    """How many seconds that was late."""
    next_fire: datetime | None
    """The next fire time; None when there is none, or when only the app's code can tell."""
    overdue: float
    """Seconds since when a fire time waits for a beat; 0 when none does."""
    running: str | None
    """Task id of the last message, while it has not ended; only known where ``overlap`` is not ``allow``."""
    held: int
    """Messages held back until the one before them has ended."""
    catch_up: str
    overlap: str
    jitter: float
    """Seconds."""
    revision: int
    """Number of the definition that stands; higher is newer."""
    has_beat: bool
    """Whether a beat is alive that fires it."""
    retired: bool
    """Whether it was taken out of the code: beats of its app are alive, and none of them has had it for 30 s."""
    over: bool
    """Whether it has no fire time to come."""
    args: list[Any]
    kwargs: dict[str, Any]

    @property
    def state(self) -> str:
        """In a word or two, as all views show it: one of :data:`STATES`."""
        if self.retired:
            return "retired"
        if self.paused:
            return "paused"
        if not self.has_beat and not self.over:
            return "no beat"
        if self.overdue > OVERDUE:
            return "overdue"
        return "ended" if self.over else "on"


@dataclass(frozen=True, slots=True)
class Fire:
    """What became of one fire time."""

    fire_time: datetime
    outcome: str
    """``missed`` (nobody fired it), ``skipped`` (the message before had not ended), ``held`` (it waits for that one),
    ``fired`` (its message was sent), or the state in which its message has ended, such as ``SUCCESS``."""
    task_id: str
    """Of its message; empty when it has none."""
    fired_at: datetime | None
    """When a beat dealt with it."""
    ended_at: datetime | None
    runtime: float | None
    """Seconds that its message ran."""
    missed: int = 0
    """For ``missed``: how many fire times before this one."""


def info(
    one: Registered, state: State, schedule: Schedule | None, *, now_ms: int, beats: Sequence[str], zone: str = "UTC"
) -> ScheduleInfo:
    """One schedule as it is at *now_ms*."""
    definition, now = one.definition, instant(now_ms)
    retired = one.is_retired(now_ms, beats)
    due = upcoming = None
    if schedule is not None:
        upcoming = schedule.next_after(now)
        begun = state.fired_ms if state.fired_ms is not None else one.since_ms
        due = schedule.next_after(instant(begun)) if begun else None
    waits = due is not None and not state.paused and not retired and (now - due).total_seconds() > definition.jitter
    return ScheduleInfo(
        name=definition.name,
        task=definition.task,
        spec=definition.spec,
        zone=str((definition.when or {}).get("tz", zone)),
        queue=definition.queue,
        source=definition.source,
        paused=state.paused,
        last_fire=None if state.at_ms is None or state.fired_ms is None else instant(state.fired_ms),
        fired_at=None if state.at_ms is None else instant(state.at_ms),
        lateness=state.late_ms / 1000,
        next_fire=None if retired else upcoming,
        overdue=(now - due).total_seconds() if waits and due is not None else 0.0,
        running=state.message,
        held=state.held,
        catch_up=definition.catch_up,
        overlap=definition.overlap,
        jitter=definition.jitter,
        revision=one.number,
        has_beat=bool(beats) and one.has_code(now_ms),
        retired=retired,
        over=schedule is not None and upcoming is None,
        args=definition.args,
        kwargs=definition.kwargs,
    )


def fires(rows: Sequence[tuple[bytes, Sequence[bytes]]], limit: int) -> list[Fire]:
    """The last *limit* fires in *rows* of a history, newest first."""
    found: dict[bytes, Fire] = {}
    for entry, flat in rows:
        fields = dict(zip(flat[::2], flat[1::2], strict=False))
        try:
            _read(found, int(entry.split(b"-")[0]), fields)
        except (KeyError, ValueError):  # not written by this release: nothing to show
            continue
    return list(found.values())[::-1][:limit]


def _read(found: dict[bytes, Fire], at_ms: int, fields: Mapping[bytes, bytes]) -> None:
    before = found.get(fields.get(b"i", b""))
    # of a message that was purged the end is known by its id alone
    known = before is not None and not fields[b"t"]
    kind, fire_time = fields[b"k"].decode(), before.fire_time if known and before else instant(int(fields[b"t"]))
    if kind == "missed":
        found[b"missed " + fields[b"t"]] = Fire(fire_time, kind, "", instant(at_ms), None, None, int(fields[b"n"]))
        return
    task_id = fields[b"i"].decode(errors="replace")
    if kind != "ended":
        found[fields[b"i"]] = Fire(fire_time, kind, task_id, instant(at_ms), None, None)
        return
    fired_at = before.fired_at if before else None
    ran = int(fields[b"d"]) / 1000
    found[fields[b"i"]] = Fire(fire_time, fields[b"s"].decode(), task_id, fired_at, instant(at_ms), ran)


def instant(milliseconds: int) -> datetime:
    """Epoch milliseconds as an instant."""
    return (EPOCH + milliseconds * _MILLISECOND).astimezone(UTC)


def milliseconds_of(when: datetime) -> int:
    """*when* in epoch milliseconds, rounded up: rounded down, "after the last fire time" would find it again."""
    return -((EPOCH - when) // _MILLISECOND)
