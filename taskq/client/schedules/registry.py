"""The definitions in Redis, and which revision of each may fire.

The newest definition of a schedule stands. Its revision number is written into its queue before it fires (``arm``),
and there ``fire.lua`` refuses every other: a beat of an older release cannot fire an older definition. When a schedule
moves, its old queue is closed to it first (``retire``), and what that queue knew goes along.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from taskq.broker.keys import Keys
from taskq.broker.link.replies import though_wrongtype
from taskq.broker.link.sync import SyncBroker
from taskq.broker.scripts import schedules as scripts
from taskq.broker.views.inspect import count_of, names_of, of_our_types, table_of
from taskq.client.schedules.definition import Definition, pack, unpack
from taskq.errors import DecodeError, ScheduleError

PATIENCE = 30.0
"""Seconds after the last sign of a beat with the newer definition, until an older one may take over again."""
LEASE = 15.0
"""Seconds after its last sign of life for which a beat counts as alive."""

REFUSED_OLDER, REFUSED_NAME = 0, -1
RUNTIME = "runtime"
"""Source of a definition that is in no code."""
MOST_CHANGES = 500
"""With more changes than that since the last look, all definitions are read instead."""


class Standing(NamedTuple):
    """The answer to a registration."""

    verdict: int
    """1 it stands, :data:`REFUSED_OLDER`, or :data:`REFUSED_NAME` when a beat has code of that name."""
    number: int
    since_ms: int = 0
    """Since when its timing holds."""
    earlier: tuple[str, ...] = ()
    """Queues that had the schedule before."""

    @property
    def stands(self) -> bool:
        return self.verdict == 1


@dataclass(frozen=True, slots=True)
class Registered:
    """A definition that stands."""

    definition: Definition
    number: int
    since_ms: int = 0
    earlier: tuple[str, ...] = ()
    confirmed_ms: int = 0
    """When a beat last had it in its code; 0 for one defined at runtime."""
    app: str = ""
    """The app whose code it is; empty for one defined at runtime."""

    def has_code(self, now_ms: int) -> bool:
        """Whether a beat has had its code lately, or it needs none."""
        return self.definition.source == RUNTIME or now_ms - self.confirmed_ms < PATIENCE * 1000

    def is_retired(self, now_ms: int, beats: Iterable[str]) -> bool:
        """Whether it was taken out of the code: beats of its app are alive, and none of them has it.

        Where the app has no beat at all, nobody can tell: then its beats are missing.
        """
        return bool(self.app) and not self.has_code(now_ms) and any(app_of(beat) == self.app for beat in beats)


def beat_name(app: str, unique: str) -> str:
    """The name of a beat of *app*."""
    return f"{app}@{unique}"


def app_of(beat: str) -> str:
    """The app of a beat; empty for one of a release whose beats did not say it."""
    return beat.rpartition("@")[0]


@dataclass(frozen=True, slots=True)
class State:
    """What a schedule's queue knows of it. Times are epoch milliseconds; None is never."""

    fired_ms: int | None = None
    at_ms: int | None = None
    late_ms: int = 0
    paused: bool = False
    message: str | None = None
    """Task id of its last message, where ``overlap`` has to know whether it has ended."""
    held: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The definitions of a namespace at one moment: all, or those asked for."""

    registered: Mapping[str, Registered] = field(default_factory=dict)
    number: int = 0
    beats: tuple[str, ...] = ()
    now_ms: int = 0


class Registry:
    """Reads and writes the definitions of a namespace.

    Args:
        broker: runs the commands.
        keys: of the namespace.
        deadline: seconds for one call; None takes the broker's.
    """

    def __init__(self, broker: SyncBroker, keys: Keys, deadline: float | None = None) -> None:
        self._broker = broker
        self._keys = keys
        self._deadline = deadline

    def define(self, definition: Definition, now_ms: int | None = None, app: str = "") -> Standing:
        """Register *definition*, which is in the code of *app*, or confirm that it stands; *now_ms* None asks Redis."""
        defining = scripts.Defining(
            definition.name,
            definition.revision,
            definition.timing,
            definition.queue,
            pack(definition),
            definition.source,
            "" if definition.source == RUNTIME else app,
        )
        call = scripts.define(self._keys.schedules, defining, now_ms, round(PATIENCE * 1000))
        verdict, number, *rest = self._broker.run(call, deadline=self._deadline)
        if verdict != 1:
            return Standing(verdict, number)
        since, *earlier = rest
        return Standing(verdict, number, int(since), tuple(queue.decode() for queue in earlier))

    def arm(self, name: str, queue: str, standing: Standing, begin_ms: int | None = None) -> tuple[int, bool] | None:
        """Let the revision that stands fire from its queue.

        Args:
            name: of the schedule.
            queue: where it is now.
            standing: of its definition.
            begin_ms: where nothing is known, fire times up to here are dealt with; default: since its timing holds.

        Returns:
            Its last fire time in ms and whether it is paused; None when a newer one stands.
        """
        floor, paused = standing.since_ms, False
        for earlier in standing.earlier:
            call = scripts.retire(self._keys.queue(earlier), name, standing.number)
            if known := self._broker.run(call, deadline=self._deadline):
                floor, paused = max(floor, int(known[0] or 0)), paused or bool(known[1])
        with though_wrongtype():
            self._broker.execute("SADD", self._keys.queues, queue, deadline=self._deadline)
        begin = max(standing.since_ms if begin_ms is None else begin_ms, floor)
        call = scripts.arm(self._keys.queue(queue), name, standing.number, begin, floor, paused)
        answer = self._broker.run(call, deadline=self._deadline)
        return (int(answer[1]), bool(answer[2])) if answer[0] else None

    def load(self, names: Sequence[str] | None = None) -> Snapshot:
        """Every definition that stands, or those of *names*; what cannot be read is left out."""
        return snapshot_of(self._broker.pipeline(load_commands(self._keys, names), deadline=self._deadline), names)

    def names(self) -> list[str]:
        """The names of all definitions."""
        found = of_our_types(self._broker.execute)("HKEYS", self._keys.schedules.definitions, deadline=self._deadline)
        return sorted(names_of(found))

    def changed_since(self, number: int, now: int) -> tuple[list[str], int] | None:
        """Which schedules have changed between two revision numbers, and the last number that is among them.

        None: it is not known, so everything has to be read.
        """
        if now - number > MOST_CHANGES:
            return None
        command = ("XRANGE", self._keys.schedules.changes, f"({number}-0", "+", "COUNT", 2 * MOST_CHANGES)
        rows = of_our_types(self._broker.execute)(*command, deadline=self._deadline)
        numbers = [int(entry.split(b"-")[0]) for entry, _ in rows]
        if len(rows) < now - number or numbers != list(range(number + 1, number + 1 + len(rows))):
            return None
        return [fields[1].decode(errors="replace") for _, fields in rows], number + len(rows)

    def without_code(self) -> Snapshot:
        """The definitions of code that no beat has had lately."""
        own = self._keys.schedules
        commands = [("TIME",), ("HGETALL", own.confirmed)]
        time, seen = self._broker.pipeline(commands, deadline=self._deadline)
        since = _milliseconds(time) - PATIENCE * 1000
        found = [name.decode(errors="replace") for name, ms in table_of(seen).items() if count_of(ms) <= since]
        return self.load(found) if found else Snapshot()

    def states(self, definitions: Sequence[Definition]) -> list[State]:
        """What their queues know of them."""
        commands = state_commands(self._keys, definitions)
        return states_of(self._broker.pipeline(commands, deadline=self._deadline) if commands else [])

    def suspend(self, definition: Definition, pause: bool) -> bool:
        """Pause a schedule, or let it go on; whether that changed anything.

        Raises:
            ScheduleError: it has just moved to another queue.
        """
        keys = self._keys.queue(definition.queue)
        call = scripts.suspend(keys, definition.name, pause, self._keys.schedules.wake)
        answer = self._broker.run(call, deadline=self._deadline)
        if answer < 0:
            raise ScheduleError(f"schedule {definition.name!r} is moving to another queue; try again")
        return bool(answer)

    def remove(self, one: Registered, outcome: bytes = b"", ttl_ms: int = 1) -> int | None:
        """Forget a definition and what its queue knows.

        Args:
            one: what is known of it.
            outcome: of the messages that it holds back; empty: they are sent one after the other, as before.
            ttl_ms: how long that outcome is kept.

        Returns:
            How many messages have ended with *outcome*; None when a newer definition stands.
        """
        definition = one.definition
        keys = self._keys.queue(definition.queue)
        # first the queue: a beat that has not heard of it yet must not go on firing
        call = scripts.retire(keys, definition.name, one.number, outcome, ttl_ms)
        retired = self._broker.run(call, deadline=self._deadline)
        if not retired:
            return None
        call = scripts.undefine(self._keys.schedules, definition.name, one.number)
        return int(retired[2]) if self._broker.run(call, deadline=self._deadline) else None

    def attend(self, beat: str, held: Sequence[Definition]) -> tuple[int, set[str]]:
        """A beat is alive and has these definitions: last revision number, and those of which another one stands."""
        pages = [held[start : start + 200] for start in range(0, len(held), 200)] or [[]]
        number, rejected = 0, set[str]()
        for page in pages:
            pairs = [text for definition in page for text in (definition.name, definition.revision)]
            call = scripts.attend(self._keys.schedules, beat, round(LEASE * 1000), pairs)
            number, _, *names = self._broker.run(call, deadline=self._deadline)
            rejected |= {*names_of(names)}
        return number, rejected

    def leave(self, beat: str) -> None:
        """A beat stops."""
        self._broker.run(scripts.attend(self._keys.schedules, beat, None, ()), deadline=self._deadline)


def _milliseconds(time: Sequence[bytes]) -> int:
    return int(time[0]) * 1000 + int(time[1]) // 1000


def load_commands(keys: Keys, names: Sequence[str] | None = None) -> list[tuple[Any, ...]]:
    """What :func:`snapshot_of` reads: of all schedules, or of *names* (at least one)."""
    own = keys.schedules
    tables = (own.definitions, own.revisions, own.confirmed)
    return [
        ("TIME",),
        ("GET", own.number),
        ("ZRANGE", own.beats, 0, -1, "WITHSCORES"),
        *(("HGETALL", table) if names is None else ("HMGET", table, *names) for table in tables),
    ]


def snapshot_of(replies: Sequence[Any], names: Sequence[str] | None = None) -> Snapshot:
    """The definitions in the replies to :func:`load_commands`."""
    time, number, beats, *tables = replies
    now = _milliseconds(time)
    if names is None:
        packed, records, seen = (table_of(table) for table in tables)
    else:
        keys = [name.encode() for name in names]
        packed, records, seen = (
            {key: value for key, value in zip(keys, table, strict=True) if value is not None}
            if isinstance(table, list)
            else table_of(table)
            for table in tables
        )
    found = {}
    for name, data in sorted(packed.items()):
        one = _registered(data, records.get(name), seen.get(name))
        if one is not None and one.definition.name == name.decode(errors="replace"):
            found[one.definition.name] = one
    alive = tuple(names_of(name for name, deadline in table_of(beats).items() if float(deadline) > now))
    return Snapshot(found, count_of(number), alive, now)


def state_commands(keys: Keys, definitions: Sequence[Definition]) -> list[tuple[Any, ...]]:
    """What :func:`states_of` reads."""
    commands: list[tuple[Any, ...]] = []
    for definition in definitions:
        own = keys.queue(definition.queue)
        fields = ("fired", "at", "late", "paused", "message")
        commands += [("HMGET", own.schedule(definition.name), *fields), ("LLEN", own.held(definition.name))]
    return commands


def states_of(replies: Sequence[Any]) -> list[State]:
    """The states in the replies to :func:`state_commands`."""
    return [_state(fields, held) for fields, held in zip(replies[::2], replies[1::2], strict=True)]


def _registered(data: bytes, record: bytes | None, confirmed: bytes | None) -> Registered | None:
    try:
        definition = unpack(data)
        known = json.loads(record or b"")
        # Lua writes an empty list as {}
        earlier = tuple(queue for queue in known["queues"] or () if queue != definition.queue)
        app = str(known.get("app", ""))
        return Registered(definition, int(known["number"]), int(known["since"]), earlier, int(confirmed or 0), app)
    except (DecodeError, ValueError, KeyError, TypeError):
        return None


def _state(fields: object, held: object) -> State:
    if not isinstance(fields, list):
        table_of(fields)  # raises what is not about its type
        return State(None, None, 0, False, None, 0)
    fired, at, late, paused, message = fields
    return State(
        count_of(fired) or None,
        count_of(at) or None,
        count_of(late),
        paused is not None,
        message.decode(errors="replace") if message else None,
        count_of(held),
    )
