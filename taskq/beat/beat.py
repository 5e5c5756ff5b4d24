"""Beat: sends the message of every fire time of every schedule, exactly once, however many beats run.

There is no leader and no lock. A schedule's queue holds its last fire time and the one revision of its definition that
may fire; one script compares them, enqueues the message and moves on (``lua/fire.lua``). All beats read Redis's clock,
so neither clock skew nor a second beat makes a fire time happen twice or not at all.

The first sight of a schedule is written down too: what is due after a first start and a crash right after it counts as
missed, and is not forgotten.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime, timedelta

from taskq import failpoints
from taskq.beat.catch_up import MAX_AT_ONCE, due_times, jittered, missed_between
from taskq.beat.roster import Roster
from taskq.beat.watched import NEVER, Watched
from taskq.broker.link.subscriber import Ear
from taskq.broker.scripts import schedules as scripts
from taskq.client.app import TaskQ
from taskq.client.schedules.definition import fire_id, message
from taskq.client.schedules.registry import Registry
from taskq.client.schedules.views import instant, milliseconds_of
from taskq.errors import BrokerError, BrokerRefusedError
from taskq.values.durations import milliseconds
from taskq.values.schedule.base import EPOCH

logger = logging.getLogger("taskq.beat")

LOOK_EVERY = 5.0
"""Seconds between two looks at the definitions and at Redis's clock: what makes up for a wake-up that was lost."""
MAX_SLEEP = 30.0
"""Seconds until a schedule whose class failed is asked again."""
READY_WITHIN = 45.0
"""Seconds without an answer of Redis after which a beat is not ready."""
MAX_SILENCE = 60.0
"""After this many seconds without a look (a suspended machine), what was due meanwhile counts as missed."""
RETRY_PAUSE = 1.0
"""Seconds between tries while Redis cannot be reached."""
CALL_DEADLINE = 1.0
"""Seconds for one call to Redis: short, so that a stop is prompt also during an outage."""

_INSTANT = timedelta(microseconds=1)


class Beat:
    """Fires the schedules of one app, and those that were defined at runtime. Start as many as you like.

    Args:
        app: with its schedules registered; call ``app.load()`` before.

    Raises:
        ScheduleError: a schedule has options or arguments that its task cannot be sent with.
    """

    def __init__(self, app: TaskQ) -> None:
        self._app = app
        self._roster = Roster(app, Registry(app.sync_broker, app.keys, CALL_DEADLINE))
        self._woken = threading.Event()
        self._updated: float | None = None
        """``time.monotonic()`` of the last look at the definitions. None: look now."""
        self._looked: datetime | None = None
        self._outage = False
        self.last_look = 0.0
        """``time.monotonic()`` of the last look at which Redis answered; 0 before the first."""

    def run(self, stop: threading.Event) -> None:
        """Fire until *stop* is set, in the calling thread. Redis may come and go meanwhile."""
        self._announce()
        threading.Thread(target=self._stop_with, args=(stop,), name="taskq-beat-stop", daemon=True).start()
        ear = Ear(
            self._app.address, self._app.keys.schedules.wake, self._app.config.broker_connection_timeout, self._heard
        )
        ear.start()
        try:
            while not stop.is_set():
                began = time.monotonic()
                pause = self._look() - (time.monotonic() - began)
                self._woken.wait(max(pause, 0.0))
                self._woken.clear()
        finally:
            ear.close()
            self._leave()

    def tick(self, now: datetime | None = None) -> float:
        """Fire what is due.

        Args:
            now: the present, timezone-aware; None asks Redis.

        Returns:
            Seconds from *now* until the next look; at most :data:`LOOK_EVERY`.

        Raises:
            BrokerError: Redis did not answer or refused. What was due then counts as missed.
        """
        try:
            now = self._redis_now() if now is None else now
            if failpoints.ARMED:
                failpoints.hit("beat.clock")
            self._notice_silence(now)
            if self._updated is None or time.monotonic() - self._updated >= LOOK_EVERY:
                self._roster.update(now)
                self._updated = time.monotonic()
            refused = self._fire_due(now)
        except BrokerError:
            self._lose_sight()
            raise
        if refused is not None:
            raise refused
        if self._updated is None:
            return 0.0
        dues = [one.due for one in self._roster.all() if one.due is not None and one.standing.stands]
        return min([LOOK_EVERY, *((due - now).total_seconds() for due in dues)])

    def _look(self) -> float:
        """Tick; seconds until the next one, whatever Redis says."""
        try:
            pause = self.tick()
        except BrokerError as error:
            if not self._outage:
                logger.warning("cannot fire schedules: %s; trying every %g s", error, RETRY_PAUSE)
            self._outage = True
            return RETRY_PAUSE
        except Exception:  # what somebody else wrote under our names must not end every beat there is
            logger.exception("cannot fire schedules; trying again in %g s", LOOK_EVERY)
            self._lose_sight()
            return LOOK_EVERY
        if self._outage:
            logger.warning("schedules fire again")
        self._outage = False
        self.last_look = time.monotonic()
        return pause

    @property
    def ready(self) -> bool:
        """Whether Redis was asked for the time lately, and answered."""
        return bool(self.last_look) and time.monotonic() - self.last_look < READY_WITHIN

    def _stop_with(self, stop: threading.Event) -> None:
        stop.wait()
        self._woken.set()

    def _heard(self) -> None:
        """Something about the schedules has changed."""
        self._updated = None
        self._woken.set()

    def _notice_silence(self, now: datetime) -> None:
        if self._looked is not None and (now - self._looked).total_seconds() > MAX_SILENCE:
            self._lose_sight()
        self._looked = now

    def _lose_sight(self) -> None:
        self._roster.lose_sight()

    def _fire_due(self, now: datetime) -> BrokerError | None:
        """Fire what is due; the last refusal by Redis. No schedule that fails stops the others."""
        refused: BrokerError | None = None
        for one in self._roster.all():
            if not one.standing.stands or (one.due is not None and one.due > now):
                continue
            try:
                if one.last is not None or self._arm(one, now):
                    self._catch_up_with(one, now)
            except BrokerRefusedError as error:
                one.lose_sight()
                refused = error
            except BrokerError:
                raise
            except Exception:  # a schedule class of the user's, or a definition that nobody can fire
                logger.exception("schedule %s failed; trying again in %g s", one.name, MAX_SLEEP)
                one.due = now + timedelta(seconds=MAX_SLEEP)
        return refused

    def _arm(self, one: Watched, now: datetime) -> bool:
        """Let our revision fire, and read the last fire time; False when it may not."""
        begin = None if one.seen is None else milliseconds_of(one.seen)
        armed = Registry(self._app.sync_broker, self._app.keys, CALL_DEADLINE).arm(
            one.name, one.definition.queue, one.standing, begin
        )
        if armed is None:
            self._refused(one, now)
            return False
        one.last = instant(armed[0])
        if failpoints.ARMED:
            failpoints.hit("beat.looked")
        return True

    def _catch_up_with(self, one: Watched, now: datetime) -> None:
        assert one.last is not None
        definition = one.definition
        policy = (definition.catch_up, definition.max_catch_up)
        times = due_times(one.schedule, one.last, one.seen or now, now, *policy)
        following = one.schedule.next_after(times[-1] if len(times) >= MAX_AT_ONCE else now)
        if one.seen is None and times:
            logger.info("schedule %s: making up for %d missed fire times", one.name, len(times))
        for fire_time in times:
            planned = jittered(one.name, fire_time, definition.jitter)
            if planned > now:
                one.seen, one.due = fire_time - _INSTANT, planned
                return
            if not self._fire(one, fire_time, planned, now):
                return
        one.seen = times[-1] if len(times) >= MAX_AT_ONCE else now
        one.due = NEVER if following is None else jittered(one.name, following, definition.jitter)

    def _fire(self, one: Watched, fire_time: datetime, planned: datetime, now: datetime) -> bool:
        """Fire one fire time; False when this beat must not go on with the schedule."""
        assert one.last is not None
        definition, time_ms = one.definition, milliseconds_of(fire_time)
        # "stale after 5 minutes" means: after the time at which it was to happen, however late a beat comes to it
        outgoing = message(self._app, definition, fire_id(one.name, fire_time), time_ms, milliseconds_of(planned))
        missed = missed_between(one.schedule, one.last, fire_time) if one.counts_missed else 0
        firing = scripts.Firing(
            schedule=one.name,
            revision=one.standing.number,
            fire_time_ms=time_ms,
            task_id=fire_id(one.name, fire_time),
            level=outgoing.level,
            message=outgoing.data,
            planned_ms=milliseconds_of(planned),
            overlap=definition.overlap,
            max_held=definition.max_held,
            history=self._app.config.schedule_history,
            last_ms=milliseconds_of(one.last),
            missed=missed,
        )
        if failpoints.ARMED:
            failpoints.hit("beat.fire")
        call = scripts.fire(one.keys, firing, milliseconds(self._app.config.revoke_expires))
        answer, last_ms = self._app.sync_broker.run(call, deadline=CALL_DEADLINE)
        if failpoints.ARMED:
            failpoints.hit("beat.fired")
        if answer == scripts.NOT_ARMED:
            self._refused(one, now)
            return False
        if answer >= scripts.FIRED_BEFORE:
            one.last, one.counts_missed = instant(int(last_ms)), False
        if answer > scripts.FIRED_BEFORE:
            self._tell(one, answer, fire_time, (now - planned).total_seconds(), missed)
        return True

    def _tell(self, one: Watched, answer: int, fire_time: datetime, lateness: float, missed: int) -> None:
        """Log what became of a fire time, and tell the listeners."""
        hooks, queue = self._app.hooks, one.definition.queue
        if missed:
            logger.warning("schedule %s: %d fire times were missed", one.name, missed)
            hooks.emit("schedule_missed", one.name, queue, missed)
        if answer == scripts.SKIPPED:
            logger.info("skipped %s: the message before has not ended", fire_id(one.name, fire_time))
            hooks.emit("schedule_skipped", one.name, queue, fire_time)
            return
        logger.info("fired %s", fire_id(one.name, fire_time))
        hooks.emit("schedule_fired", one.name, queue, fire_time, max(lateness, 0.0))

    def _refused(self, one: Watched, now: datetime) -> None:
        """Redis knows another revision of this schedule: look at the definitions before anything else."""
        one.disarm()
        one.due = now + timedelta(seconds=RETRY_PAUSE)
        self._updated = None

    def _redis_now(self) -> datetime:
        seconds, micros = self._app.sync_broker.execute("TIME", deadline=CALL_DEADLINE)
        now = EPOCH + timedelta(seconds=int(seconds), microseconds=int(micros))
        if self._app.hooks.has_listeners("clock_skew"):
            self._app.hooks.emit("clock_skew", time.time() - now.timestamp())
        return now

    def _leave(self) -> None:
        try:
            self._roster.leave()
        except BrokerError as error:
            logger.debug("this beat will count as alive for some seconds more: %s", error)

    def _announce(self) -> None:
        watched = self._roster.all()
        if not watched:
            logger.warning("app %s has no schedules; beat waits for those defined at runtime", self._app.name)
        for one in watched:
            logger.info("schedule %s: %s -> %s", one.name, one.definition.spec, one.definition.task)
            if one.definition.task not in self._app.tasks:
                logger.warning(
                    "schedule %s: task %r is not known here; it is sent all the same", one.name, one.definition.task
                )
