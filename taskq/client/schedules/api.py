"""``app.schedules``: define schedules at runtime, and look at and steer those of code and configuration too."""

from __future__ import annotations

import builtins
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from taskq.broker import calls, scripts
from taskq.broker.scripts import schedules as schedule_scripts
from taskq.client.result import Result
from taskq.client.schedules.definition import Definition, define, fire_id, message
from taskq.client.schedules.entry import MAX_CATCH_UP, PeriodicEntry
from taskq.client.schedules.registry import REFUSED_NAME, RUNTIME, Registered, Registry, Snapshot, State
from taskq.client.schedules.views import Fire, ScheduleInfo, fires, info, instant, milliseconds_of
from taskq.errors import ConfigError, ScheduleError, suggestion
from taskq.values.checks import check_count, shown
from taskq.values.durations import Duration, milliseconds
from taskq.values.message import TaskState
from taskq.values.outcome import pack_error
from taskq.values.schedule import Schedule, fire_times
from taskq.values.schedule.base import EPOCH, utc

if TYPE_CHECKING:
    from taskq.client.app import TaskQ

MAX_BACKFILL = 10_000
MAX_FIRES = 10_000
"""Most fire times that are listed at once."""


class Schedules:
    """The schedules of a namespace: ``app.schedules``.

    Schedules of code and configuration are known here as soon as a beat has registered them, or where the app that
    asks has their code.
    """

    def __init__(self, app: TaskQ) -> None:
        self._app = app

    def add(
        self,
        name: str,
        schedule: Schedule,
        task: str,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        catch_up: str = "last",
        max_catch_up: int = MAX_CATCH_UP,
        overlap: str = "allow",
        max_held: int = 1,
        jitter: Duration = 0.0,
        start: datetime | None = None,
        end: datetime | None = None,
        **options: Any,
    ) -> ScheduleInfo:
        """Define a schedule at runtime. It is kept in Redis, and every beat of the namespace fires it.

        Adding an equal one again changes nothing; another one of the same name replaces it from now on.

        Args:
            name: of the schedule.
            schedule: ``cron("0 2 * * *", tz="Asia/Seoul")``, ``every(30)``, ``at(datetime)``.
            task: the task's name; it need not be known here.
            args, kwargs: what the task is called with.
            catch_up, max_catch_up, overlap, max_held, jitter, start, end: see :class:`taskq.PeriodicEntry`.
            **options: as for ``task.options(...)``.

        Raises:
            ScheduleError: a part of it cannot be used, it would never fire, or code that a beat runs has the name.
                Nothing was written.
        """
        entry = PeriodicEntry(
            name=name,
            task=task,
            schedule=schedule,
            args=args,
            kwargs={} if kwargs is None else kwargs,
            options=options,
            catch_up=catch_up,
            max_catch_up=max_catch_up,
            overlap=overlap,
            max_held=max_held,
            jitter=jitter,
            start=start,
            end=end,
            source="runtime",
        )
        definition = define(self._app, entry)
        if definition.when is None:
            raise ScheduleError(f"schedule {name!r}: only cron, every and at in a named zone can be kept in Redis")
        snapshot = self._registry.load([name])
        known = snapshot.registered.get(name)
        if known is None or known.definition != definition:
            self._check_future(definition, snapshot.now_ms)
        self._register(definition)
        return self.get(name)

    def remove(self, name: str) -> int:
        """Forget a schedule. Messages that it holds back end REVOKED; those already sent are not touched.

        Returns:
            How many messages it held back.

        Raises:
            ScheduleError: there is none, or a beat has it in its code (take it out of there, or pause it).
        """
        snapshot = self._look_up(name)
        one = snapshot.registered.get(name)
        if one is None:
            raise self._unknown(name)
        if one.definition.source != RUNTIME and one.has_code(snapshot.now_ms):
            raise ScheduleError(f"schedule {name!r} is in the code of a running beat; take it out there, or pause it")
        config = self._app.config
        outcome = pack_error(TaskState.REVOKED, "", "its schedule was removed", "", 0)
        ended = self._registry.remove(one, outcome, milliseconds(config.failure_expires))
        if ended is None:
            raise ScheduleError(f"schedule {name!r} was changed meanwhile; try again")
        return ended

    def pause(self, name: str) -> bool:
        """Fire it no more until :meth:`resume`; whether it was not paused before.

        From the moment this returns no beat fires it, whatever it knows. What was sent before is not touched.

        Raises:
            ScheduleError: there is no such schedule.
        """
        return self._registry.suspend(self._find(name).definition, pause=True)

    def resume(self, name: str) -> bool:
        """Let it go on; whether it was paused. What was due meanwhile is not made up for; see :meth:`backfill`.

        Raises:
            ScheduleError: there is no such schedule.
        """
        return self._registry.suspend(self._find(name).definition, pause=False)

    def run_now(self, name: str) -> Result[Any]:
        """Send its message now, paused or not. The fire times go on as they are; ``overlap`` counts.

        Raises:
            ScheduleError: there is no such schedule, or its last message has not ended and ``overlap`` says skip.
        """
        definition = self._find(name).definition
        now_ms = self._now_ms()
        task_id = f"{name}@now:{secrets.token_hex(8)}"
        outgoing = message(self._app, definition, task_id, now_ms, now_ms)
        config = self._app.config
        firing = schedule_scripts.Firing(
            schedule=name,
            revision=None,
            fire_time_ms=now_ms,
            task_id=task_id,
            level=outgoing.level,
            message=outgoing.data,
            overlap=definition.overlap,
            max_held=definition.max_held,
            history=config.schedule_history,
        )
        call = schedule_scripts.fire(outgoing.keys, firing, milliseconds(config.revoke_expires))
        answer = self._app.sync_broker.run(call)[0]
        if answer == schedule_scripts.NOT_ARMED:
            raise ScheduleError(f"schedule {name!r} was moved or removed meanwhile; try again")
        if answer == schedule_scripts.SKIPPED:
            raise ScheduleError(
                f"schedule {name!r}: its last message has not ended, and overlap={definition.overlap!r}"
            )
        return Result(self._app, task_id, definition.queue)

    def backfill(self, name: str, start: datetime, end: datetime, *, limit: int = 1000) -> builtins.list[Result[Any]]:
        """Send one message for each fire time from *start* to *end*, both included, whether it was fired or not.

        Each fire time once a day: a backfill that was interrupted is completed by doing it again. ``overlap``, pause
        and ``catch_up`` play no part, and ``expires`` counts from now. The task learns its fire time from
        ``current_task().fire_time``.

        Raises:
            ScheduleError: there is no such schedule, its fire times are not known here, no time zone, *end* before
                *start*, or more than *limit* fire times (at most 10,000).
        """
        definition = self._find(name).definition
        schedule = self._schedule_of(definition)
        start, end, limit = utc(start), utc(end), _count(limit, "limit", MAX_BACKFILL)
        if not EPOCH < start <= end:
            raise ScheduleError(f"{start} to {end} is not a time to fill: write a start after 1970, and then the end")
        times = fire_times(schedule, instant(milliseconds_of(start) - 1), end, limit + 1)
        if len(times) > limit:
            raise ScheduleError(f"more than {limit} fire times from {start} to {end}; write a shorter time, or limit=")
        results = []
        for page in range(0, len(times), scripts.MAX_PER_CALL):
            quads: builtins.list[calls.Arg] = []
            for fire_time in times[page : page + scripts.MAX_PER_CALL]:
                task_id = f"{fire_id(name, fire_time)}:backfill"
                outgoing = message(self._app, definition, task_id, milliseconds_of(fire_time))
                quads += (task_id, str(outgoing.level), "", outgoing.data)
                results.append(Result[Any](self._app, task_id, definition.queue))
            self._app.sync_broker.execute("SADD", self._app.keys.queues, definition.queue)
            self._app.sync_broker.run(scripts.relay(self._app.keys.queue(definition.queue), quads))
        return results

    def list(self) -> builtins.list[ScheduleInfo]:
        """Every schedule of the namespace, by name."""
        snapshot = self._registry.load()
        known = self._with_own(snapshot)
        states = self._registry.states([one.definition for one in known])
        return [self._info(one, state, snapshot) for one, state in zip(known, states, strict=True)]

    def get(self, name: str) -> ScheduleInfo:
        """One schedule.

        Raises:
            ScheduleError: there is none of that name.
        """
        snapshot = self._look_up(name)
        one = snapshot.registered.get(name) or self._own(name)
        if one is None:
            raise self._unknown(name)
        (state,) = self._registry.states([one.definition])
        return self._info(one, state, snapshot)

    def history(self, name: str, *, limit: int = 20) -> builtins.list[Fire]:
        """What became of its last fire times, newest first; ``schedule_history`` says how many are kept.

        Raises:
            ScheduleError: there is no such schedule, or *limit* is not a number from 0 to 10,000.
        """
        _count(limit, "limit", MAX_FIRES)
        definition = self._find(name, register=False).definition
        stream = self._app.keys.queue(definition.queue).fires(name)
        return fires(self._app.sync_broker.execute("XRANGE", stream, "-", "+"), limit)

    def next(self, name: str, count: int = 5, *, after: datetime | None = None) -> builtins.list[datetime]:
        """Its coming fire times, in UTC, without jitter.

        Args:
            name: of the schedule.
            count: at most so many; up to 10,000.
            after: from here on; default now.

        Raises:
            ScheduleError: there is no such schedule, or its fire times are not known here.
        """
        _count(count, "count", MAX_FIRES)
        schedule = self._schedule_of(self._find(name, register=False).definition)
        begin = instant(self._now_ms()) if after is None else utc(after)
        return fire_times(schedule, begin, datetime.max.replace(tzinfo=UTC), count)

    def beats(self) -> builtins.list[str]:
        """The beats that are alive: app, host, process id and a random part."""
        return sorted(self._registry.load([""]).beats)

    @property
    def _registry(self) -> Registry:
        return Registry(self._app.sync_broker, self._app.keys)

    def _register(self, definition: Definition) -> None:
        standing = self._registry.define(definition, app=self._app.name)
        if standing.verdict == REFUSED_NAME:
            raise ScheduleError(f"the schedule name {definition.name!r} is taken by the code of a running beat")
        if standing.stands:
            self._registry.arm(definition.name, definition.queue, standing)

    def _find(self, name: str, *, register: bool = True) -> Registered:
        """The definition that stands; one that only this app's code has is registered, if asked."""
        if (known := self._look_up(name).registered.get(name)) is not None:
            return known
        if (own := self._own(name)) is None:
            raise self._unknown(name)
        if register:
            self._register(own.definition)
        return own

    def _look_up(self, name: object) -> Snapshot:
        if not isinstance(name, str):
            raise self._unknown(name)
        try:
            name.encode()
        except UnicodeEncodeError:
            raise self._unknown(name) from None
        return self._registry.load([name])

    def _own(self, name: str) -> Registered | None:
        """What this app's code has of that name."""
        entry = self._app.periodic_entries.get(name)
        return None if entry is None else Registered(define(self._app, entry), 0)

    def _with_own(self, snapshot: Snapshot) -> Sequence[Registered]:
        """What stands, and what only this app's code has."""
        known = dict(snapshot.registered)
        for name, entry in self._app.periodic_entries.items():
            if name not in known:
                known[name] = Registered(define(self._app, entry), 0)
        return [known[name] for name in sorted(known)]

    def _info(self, one: Registered, state: State, snapshot: Snapshot) -> ScheduleInfo:
        schedule, zone = self._try_schedule(one.definition), self._app.config.timezone
        return info(one, state, schedule, now_ms=snapshot.now_ms, beats=snapshot.beats, zone=zone)

    def _try_schedule(self, definition: Definition) -> Schedule | None:
        """When it fires, as far as that is known here."""
        try:
            return self._schedule_of(definition)
        except ScheduleError:
            return None

    def _schedule_of(self, definition: Definition) -> Schedule:
        schedule = definition.schedule()
        entry = self._app.periodic_entries.get(definition.name)
        if schedule is None and entry is not None and entry.schedule.spec == definition.spec:
            schedule = entry.bounded
        if schedule is None:
            raise ScheduleError(f"when {definition.name!r} fires ({definition.spec}) only the code of its app can tell")
        return schedule

    def _check_future(self, definition: Definition, now_ms: int) -> None:
        if self._schedule_of(definition).next_after(instant(now_ms)) is None:
            raise ScheduleError(f"schedule {definition.name!r}: {definition.spec} has no fire time after now")

    def _now_ms(self) -> int:
        seconds, micros = self._app.sync_broker.execute("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    def _unknown(self, name: object) -> ScheduleError:
        known = {*self._registry.names(), *self._app.periodic_entries}
        return ScheduleError(f"there is no schedule {shown(name)}; {suggestion(name, known)}")


def _count(value: object, what: str, most: int) -> int:
    try:
        return check_count(value, what, 0, most)
    except ConfigError as error:
        raise ScheduleError(str(error)) from None
