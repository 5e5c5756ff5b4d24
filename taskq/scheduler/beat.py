"""Beat: sends the message of every fire time of every schedule, exactly once, however many beats run.

There is no leader and no lock. The hash ``fired`` of a queue holds the last fire time of each schedule; one
script compares it, enqueues the message and moves it on (``lua/fire.lua``). All beats read Redis's clock, so
neither clock skew nor a second beat makes a fire time happen twice or not at all.

The first sight of a schedule is written to ``fired`` too: what is due after a first start and a crash right
after it counts as missed, and is not forgotten.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from taskq import failpoints
from taskq.app import PeriodicEntry, TaskQ
from taskq.broker import scripts
from taskq.broker.keys import QueueKeys
from taskq.broker.producer import Outgoing
from taskq.errors import (
    BrokerError,
    BrokerRefusedError,
    ConfigError,
    ScheduleError,
    SerializationError,
)
from taskq.scheduler.catch_up import MAX_AT_ONCE, due_times
from taskq.task import CallPlan, call_plan, prepare

logger = logging.getLogger("taskq.beat")

MAX_SLEEP = 30.0
"""Longest seconds between two looks at Redis's clock, so that a jump of it is noticed."""
MAX_SILENCE = 60.0
"""After this many seconds without a look (a suspended machine), what was due meanwhile counts as missed."""
RETRY_PAUSE = 1.0
"""Seconds between tries while Redis cannot be reached."""
CALL_DEADLINE = 1.0
"""Seconds for one call to Redis: short, so that a stop is prompt also during an outage."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_NOT_FOR_SCHEDULES = ("countdown", "eta", "task_id")


@dataclass(slots=True, eq=False)
class _Watched:
    """A schedule, and how far this beat has come with it."""

    entry: PeriodicEntry
    keys: QueueKeys
    seen: datetime | None = None
    """All fire times up to here are dealt with. None: none yet, or Redis was out of sight since."""
    due: datetime | None = None
    """Nothing to do before. None: look now."""


class Beat:
    """Fires the schedules of one app. Start as many as you like, on as many hosts as you like.

    Args:
        app: with its schedules registered; call ``app.load()`` before.

    Raises:
        ScheduleError: a schedule has options or arguments that its task cannot be sent with.
    """

    def __init__(self, app: TaskQ) -> None:
        self._app = app
        self._watched = [self._watch(entry) for entry in app.periodic_entries.values()]
        self._registered: set[str] = set()
        self._looked: datetime | None = None
        self._outage = False

    def run(self, stop: threading.Event) -> None:
        """Fire until *stop* is set, in the calling thread. Redis may come and go meanwhile."""
        self._announce()
        if not self._watched:
            stop.wait()
        while not stop.is_set():
            began = time.monotonic()
            pause = self._look() - (time.monotonic() - began)
            stop.wait(max(pause, 0.0))

    def tick(self, now: datetime | None = None) -> float:
        """Fire what is due.

        Args:
            now: the present, timezone-aware; None asks Redis.

        Returns:
            Seconds from *now* until the next look; at most :data:`MAX_SLEEP`.

        Raises:
            BrokerError: Redis did not answer or refused. What was due then counts as missed.
        """
        try:
            now = self._redis_now() if now is None else now
            if failpoints.ARMED:
                failpoints.hit("beat.clock")
            self._notice_silence(now)
            refused = self._fire_due(now)
        except BrokerError:
            _lose_sight(self._watched)
            raise
        if refused is not None:
            raise refused
        dues = [one.due for one in self._watched if one.due is not None]
        return min([MAX_SLEEP, *((due - now).total_seconds() for due in dues)])

    def _look(self) -> float:
        """Tick; seconds until the next one, whatever Redis says."""
        try:
            pause = self.tick()
        except BrokerError as error:
            if not self._outage:
                logger.warning("cannot fire schedules: %s; trying every %g s", error, RETRY_PAUSE)
            self._outage = True
            return RETRY_PAUSE
        if self._outage:
            logger.warning("schedules fire again")
        self._outage = False
        return pause

    def _notice_silence(self, now: datetime) -> None:
        if self._looked is not None and (now - self._looked).total_seconds() > MAX_SILENCE:
            _lose_sight(self._watched)
        self._looked = now

    def _fire_due(self, now: datetime) -> BrokerError | None:
        """Fire what is due; the last refusal by Redis, which does not stop the other queues."""
        refused: BrokerError | None = None
        by_queue: defaultdict[QueueKeys, list[_Watched]] = defaultdict(list)
        for one in self._watched:
            if one.due is None or one.due <= now:
                by_queue[one.keys].append(one)
        for keys, watched in by_queue.items():
            try:
                for one, last in zip(watched, self._last_fired(keys, watched, now), strict=True):
                    self._catch_up_with(one, last, now)
            except BrokerRefusedError as error:
                _lose_sight(watched)
                refused = error
        return refused

    def _last_fired(self, keys: QueueKeys, watched: list[_Watched], now: datetime) -> list[datetime]:
        """The last fire times in Redis; a schedule that it does not know begins, and that is written down."""
        execute = self._app.sync_broker.execute
        if keys.queue not in self._registered:
            execute("SADD", self._app.keys.queues, keys.queue, deadline=CALL_DEADLINE)
            self._registered.add(keys.queue)
        names = [one.entry.name for one in watched]
        found = []
        stored = execute("HMGET", keys.fired, *names, deadline=CALL_DEADLINE)
        for one, value in zip(watched, stored, strict=True):
            begin = one.seen or now
            if value is None:
                execute("HSETNX", keys.fired, one.entry.name, _milliseconds(begin), deadline=CALL_DEADLINE)
            found.append(begin if value is None else _EPOCH + int(value) * _MILLISECOND)
        return found

    def _catch_up_with(self, one: _Watched, last: datetime, now: datetime) -> None:
        if failpoints.ARMED:
            failpoints.hit("beat.looked")
        entry = one.entry
        try:
            times = due_times(entry.schedule, last, one.seen or now, now, entry.catch_up)
            following = entry.schedule.next_after(times[-1] if len(times) >= MAX_AT_ONCE else now)
        except Exception:  # a schedule class of the user's: the other schedules must go on
            logger.exception("schedule %s failed; trying again in %g s", entry.name, MAX_SLEEP)
            one.due = now + timedelta(seconds=MAX_SLEEP)
            return
        if one.seen is None and times:
            logger.info("schedule %s: making up for %d missed fire times", entry.name, len(times))
        for fire_time in times:
            self._fire(one, fire_time)
        one.seen = times[-1] if len(times) >= MAX_AT_ONCE else now
        one.due = following or _NEVER

    def _fire(self, one: _Watched, fire_time: datetime) -> None:
        message = self._message(one.entry, fire_time)
        call = scripts.fire(one.keys, one.entry.name, _milliseconds(fire_time), message.level, message.data)
        if failpoints.ARMED:
            failpoints.hit("beat.fire")
        if self._app.sync_broker.run(call, deadline=CALL_DEADLINE):
            logger.info("fired %s", fire_id(one.entry.name, fire_time))
        if failpoints.ARMED:
            failpoints.hit("beat.fired")

    def _watch(self, entry: PeriodicEntry) -> _Watched:
        """Check that *entry* can be sent, now rather than at its first fire time."""
        for option in _NOT_FOR_SCHEDULES:
            if entry.options.get(option) is not None:
                raise ScheduleError(f"schedule {entry.name!r} cannot have {option!r}: each fire time has its own")
        task = self._app.tasks.get(entry.task)
        try:
            if task is not None:
                task.check_call(entry.args, entry.kwargs)
            message = self._message(entry, _EPOCH.replace(microsecond=1))
        except (ConfigError, SerializationError, TypeError) as error:
            raise ScheduleError(f"schedule {entry.name!r}: {error}") from error
        return _Watched(entry, message.keys)

    def _message(self, entry: PeriodicEntry, fire_time: datetime) -> Outgoing:
        plan = self._plan(entry, fire_id(entry.name, fire_time))
        return prepare(self._app, entry.task, tuple(entry.args), dict(entry.kwargs), plan)[0]

    def _plan(self, entry: PeriodicEntry, task_id: str) -> CallPlan:
        settings = {**entry.options, "task_id": task_id}
        where = f"schedule {entry.name}"
        task = self._app.tasks.get(entry.task)
        if task is None:
            config = self._app.config
            return call_plan(
                settings, where=where, queue=config.task_default_queue, priority=config.task_default_priority
            )
        options = task.settings
        return call_plan(
            settings,
            where=where,
            queue=options.queue,
            priority=options.priority,
            ignore_result=options.ignore_result,
            expires=options.expires,
        )

    def _redis_now(self) -> datetime:
        seconds, micros = self._app.sync_broker.execute("TIME", deadline=CALL_DEADLINE)
        return _EPOCH + timedelta(seconds=int(seconds), microseconds=int(micros))

    def _announce(self) -> None:
        if not self._watched:
            logger.warning("app %s has no schedules; beat has nothing to do", self._app.name)
        for one in self._watched:
            entry = one.entry
            logger.info("schedule %s: %s -> %s", entry.name, entry.schedule.spec, entry.task)
            if entry.task not in self._app.tasks:
                logger.warning(
                    "schedule %s: task %r is not known here; it is sent all the same", entry.name, entry.task
                )


def fire_id(schedule: str, fire_time: datetime) -> str:
    """The task id of one fire time: ``coupons@2025-03-30T17:00:00Z``."""
    return f"{schedule}@{fire_time.astimezone(UTC).replace(tzinfo=None).isoformat()}Z"


def _milliseconds(instant: datetime) -> int:
    # rounded up: rounded down, "after the last fire time" would find the same fire time again
    return -((_EPOCH - instant) // _MILLISECOND)


def _lose_sight(watched: Iterable[_Watched]) -> None:
    """From now on, what was due meanwhile counts as missed."""
    for one in watched:
        one.seen = one.due = None
