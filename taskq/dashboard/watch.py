"""What the overview looks at beside the queues: workers, beats, schedules, and what failed lately.

It is read at most every :func:`taskq.dashboard.sampler.pace` seconds, whoever looks, so an open page stays cheap.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from taskq.broker.views.inspect import QueueStats
from taskq.broker.views.totals import read_history
from taskq.broker.views.unknown import Unknown, first_delayed
from taskq.broker.views.workers import WorkerInfo, read_workers
from taskq.client.app import TaskQ
from taskq.client.schedules.views import OVERDUE, ScheduleInfo
from taskq.dashboard.sampler import pace
from taskq.errors import BrokerError

logger = logging.getLogger("taskq.dashboard")

LATELY = 3600.0
"""Seconds within which a failure for good is new."""
SOONEST = 5
UNKNOWN_QUEUES, UNKNOWN_EACH = 5, 10
"""Queues, those with most delayed messages, and messages of each that are looked at for unknown tasks."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What there was at the last look."""

    workers: Sequence[WorkerInfo]
    beats: int
    schedules: Sequence[ScheduleInfo]
    failed_lately: int
    """Messages that failed for good within :data:`LATELY`."""
    unknown: Unknown = field(default_factory=Unknown)
    """Tasks that no worker knows, among the first delayed messages of some queues."""

    @property
    def alive(self) -> int:
        """Worker processes that live."""
        return sum(worker.alive for worker in self.workers)

    @property
    def dead(self) -> list[WorkerInfo]:
        """Those that do not renew their leases, the one that reported last first."""
        late = [worker for worker in self.workers if not worker.alive]
        return sorted(late, key=lambda worker: -worker.lease_left)

    @property
    def overdue(self) -> list[ScheduleInfo]:
        """Schedules whose fire time waits, the longest first."""
        return sorted((info for info in self.schedules if info.overdue > OVERDUE), key=lambda info: -info.overdue)


NOTHING = Seen((), 0, (), 0)


class Watch:
    """Looks, and remembers what it saw for a while."""

    def __init__(self, app: TaskQ) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._seen = NOTHING
        self._next = 0.0

    def seen(self, queues: Sequence[QueueStats]) -> Seen:
        """What there is, at most a few seconds old; longer with very many *queues* or schedules, or without Redis."""
        if time.monotonic() >= self._next and self._lock.acquire(blocking=self._seen is NOTHING):
            try:  # somebody who looks already is not waited for: an older answer is better than a queue of requests
                if time.monotonic() >= self._next:
                    self._look(queues)
            finally:
                self._lock.release()
        return self._seen

    def _look(self, queues: Sequence[QueueStats]) -> None:
        commands = 14 + 2 * len(queues) + 2 * len(self._seen.schedules)
        self._next = time.monotonic() + max(SOONEST, pace(commands))
        try:
            self._seen = self._read(queues)
        except BrokerError as error:  # the sampler tells about it
            logger.debug("workers and schedules could not be read: %s", error)

    def _read(self, queues: Sequence[QueueStats]) -> Seen:
        app, names = self._app, [stats.queue for stats in queues]
        pipeline = app.sync_broker.pipeline
        workers = read_workers(pipeline, app.keys, names)
        beats, schedules = app.schedules.beats(), app.schedules.list()
        history = read_history(pipeline, [app.keys.queue(name) for name in names])
        since = time.time() - LATELY
        failed = sum(minute.sums.failed for rows in history.values() for minute in rows if minute.start >= since)
        return Seen(workers, len(beats), schedules, failed, self._unknown(queues))

    def _unknown(self, queues: Sequence[QueueStats]) -> Unknown:
        found, fullest = Unknown(), sorted(queues, key=lambda stats: -stats.delayed)[:UNKNOWN_QUEUES]
        commands = [first_delayed(self._app.keys.queue(each.queue), UNKNOWN_EACH) for each in fullest if each.delayed]
        for reply in self._app.sync_broker.pipeline(commands) if commands else ():
            found.add(reply if isinstance(reply, list) else ())
        return found
