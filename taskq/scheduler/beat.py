"""Beat: sends the message of every fire time of every schedule, exactly once, however many beats run.

There is no leader and no lock. The hash ``fired`` of a queue holds the last fire time of each schedule; one script
compares it, enqueues the message and moves it on (``lua/fire.lua``). All beats read Redis's clock, so neither
clock skew nor a second beat makes a fire time happen twice or not at all.

A schedule's first sight is written to ``fired`` too: what is due between a first start and a crash right after it
counts as missed, and is not forgotten.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from taskq.app import PeriodicEntry, TaskQ
from taskq.broker import scripts
from taskq.broker.keys import QueueKeys
from taskq.errors import BrokerError, ConfigError, ScheduleError, SerializationError
from taskq.scheduler.catch_up import MAX_AT_ONCE, due_times
from taskq.signature import signature_check
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

_FORBIDDEN = {
    "countdown": "the schedule says when it runs",
    "eta": "the schedule says when it runs",
    "task_id": "each fire time has its own",
}


@dataclass(slots=True, eq=False)
class _Watched:
    """A schedule and how far this beat has come with it."""

    entry: PeriodicEntry
    keys: QueueKeys
    seen: datetime | None = None
    """This beat has dealt with all fire times up to here; None: none yet, or it lost sight of Redis."""
    due: datetime | None = None
    """Nothing to do before; None: look now."""


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
            Seconds until the next look, counted from *now*; at most :data:`MAX_SLEEP`.

        Raises:
            BrokerError: Redis did not answer or refused; fire times not fired yet are made up for later.
        """
        now = self._redis_now() if now is None else now
        if self._looked is not None and (now - self._looked).total_seconds() > MAX_SILENCE:
            self._lose_sight()
        self._looked = now
        failure: BrokerError | None = None
        for keys, watched in self._due_by_queue(now).items():
            try:
                self._register(keys, watched, now)
                for one in watched:
                    self._handle(one, now)
            except BrokerError as error:
                failure = error  # the other queues may be well
                _forget(watched)
        if failure is not None:
            raise failure
        dues = [one.due for one in self._watched if one.due is not None]
        return min([MAX_SLEEP, *((due - now).total_seconds() for due in dues)])
