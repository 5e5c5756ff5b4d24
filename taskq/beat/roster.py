"""The schedules that one beat fires: those of its code, and those defined at runtime."""

from __future__ import annotations

import logging
import os
import socket
from datetime import datetime, timedelta

from taskq.beat.watched import NEVER, Watched
from taskq.client.app import TaskQ
from taskq.client.schedules.definition import Definition, define
from taskq.client.schedules.registry import RUNTIME, Registered, Registry, Snapshot, Standing, beat_name
from taskq.client.schedules.views import milliseconds_of
from taskq.errors import ScheduleError
from taskq.values.schedule import Schedule

logger = logging.getLogger("taskq.beat")

FORGET_AFTER = timedelta(days=1)
"""How long a schedule that was defined at runtime is kept after its last fire time."""

RETIRED_FOR = timedelta(days=7)
"""How long a schedule is kept that no beat has in its code any more, so that a rollback finds how far it had come."""
SWEEP_EVERY = timedelta(seconds=30)
"""Between two looks for such schedules."""

_NOT_YET = Standing(0, 0)


class Roster:
    """Keeps this beat's schedules and those in Redis alike.

    Args:
        app: with its schedules registered.
        registry: of the definitions.

    Raises:
        ScheduleError: a schedule has options or arguments that its task cannot be sent with.
    """

    def __init__(self, app: TaskQ, registry: Registry) -> None:
        self._app = app
        self._registry = registry
        self._own = {
            name: self._watch(define(app, entry), entry.bounded, _NOT_YET)
            for name, entry in app.periodic_entries.items()
        }
        self._others: dict[str, Watched] = {}
        self._number: int | None = None
        self._updated: datetime | None = None
        """The last look. What was defined after it cannot have been missed before it. None: out of sight since."""
        self._swept: datetime | None = None
        self._told: set[str] = set()
        """Those that were taken out of the code, as far as the log has said so."""
        self.beat = beat_name(app.name, f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}")
        """The name of this beat."""

    def all(self) -> list[Watched]:
        """Every schedule that may be fired here; those of which a newer definition stands are among them."""
        return [*self._own.values(), *self._others.values()]

    def update(self, now: datetime) -> None:
        """Say that this beat is alive, register what is not, and learn what others have defined.

        Raises:
            BrokerError: Redis did not answer.
        """
        # before it says that it is alive: until then what is in its code only looks as if it were taken out of it
        for one in self._own.values():
            if not one.standing.stands:
                self._register(one, now)
        standing = [one.definition for one in self._own.values() if one.standing.stands]
        number, rejected = self._registry.attend(self.beat, standing)
        for one in self._own.values():
            if one.name in rejected:
                self._register(one, now)
        self._load(number)
        self._updated = now
        self._forget_finished(now)
        if self._swept is None or not timedelta() <= now - self._swept < SWEEP_EVERY:
            self._sweep()
            self._swept = now

    def lose_sight(self) -> None:
        """From now on, what was due meanwhile counts as missed."""
        self._updated = None
        for one in self.all():
            one.lose_sight()

    def leave(self) -> None:
        """This beat stops."""
        self._registry.leave(self.beat)

    def _register(self, one: Watched, now: datetime) -> None:
        before, one.standing = one.standing, self._registry.define(one.definition, milliseconds_of(now), self._app.name)
        if one.standing.number != before.number or one.standing.stands != before.stands:
            one.disarm()
        if not one.standing.stands and (before.stands or before is _NOT_YET):
            logger.warning("schedule %s: a newer definition stands; this beat does not fire it", one.name)
        elif one.standing.stands and not before.stands and before is not _NOT_YET:
            logger.warning("schedule %s: no beat has the newer definition any more; this one stands again", one.name)

    def _load(self, number: int) -> None:
        """Take up what is defined at runtime: what has changed since the last look, as far as that is known."""
        if number == self._number:
            return
        changes = None if self._number is None else self._registry.changed_since(self._number, number)
        if changes is None:
            snapshot = self._registry.load()
            names, last = {*self._others, *snapshot.registered}, snapshot.number
        else:
            names, last = set(changes[0]), changes[1]
            snapshot = self._registry.load(sorted(names)) if names else Snapshot()
        for name in sorted(names):
            self._replace(name, snapshot.registered.get(name))
        self._number = last

    def _replace(self, name: str, one: Registered | None) -> None:
        """Fire *one* from now on, and nothing else of that name; None: nothing at all."""
        known = self._others.get(name)
        if one is not None and known is not None and known.standing.number == one.number:
            return
        made = None
        if one is not None and one.definition.source == RUNTIME and name not in self._own:
            made = self._take_up(one)
        if made is not None:
            made.seen = known.seen if known is not None else self._updated
            self._others[name] = made
        elif self._others.pop(name, None) is not None:
            logger.info("schedule %s: removed", name)

    def _sweep(self) -> None:
        """Look for schedules that were taken out of the code of this app, and forget those that are long gone."""
        snapshot = self._registry.without_code()
        gone = {
            name: one
            for name, one in snapshot.registered.items()
            if name not in self._own and one.is_retired(snapshot.now_ms, [self.beat])
        }
        for name in gone.keys() - self._told:
            logger.warning(
                "schedule %s is retired: it is in the code of no beat any more; forgotten after %d days,"
                " or now by: taskq schedule remove",
                name,
                RETIRED_FOR.days,
            )
        self._told = set(gone)
        for name, one in gone.items():
            if snapshot.now_ms - one.confirmed_ms > RETIRED_FOR.total_seconds() * 1000:
                self._registry.remove(one)
                logger.warning("schedule %s: out of the code for %d days, forgotten", name, RETIRED_FOR.days)

    def _take_up(self, one: Registered) -> Watched | None:
        try:
            schedule = one.definition.schedule()
        except ScheduleError as error:
            logger.error("schedule %s cannot be used here: %s", one.definition.name, error)
            return None
        if schedule is None:
            return None
        logger.info("schedule %s: %s -> %s", one.definition.name, one.definition.spec, one.definition.task)
        return self._watch(one.definition, schedule, Standing(1, one.number, one.since_ms, one.earlier))

    def _watch(self, definition: Definition, schedule: Schedule, standing: Standing) -> Watched:
        keys = self._app.keys.queue(definition.queue)
        return Watched(definition, schedule, keys, standing)

    def _forget_finished(self, now: datetime) -> None:
        for name, one in list(self._others.items()):
            if one.due is NEVER and one.last is not None and now - one.last > FORGET_AFTER:
                self._registry.remove(Registered(one.definition, one.standing.number))
                logger.info("schedule %s: over since %s, forgotten", name, one.last)
                del self._others[name]
