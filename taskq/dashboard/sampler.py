"""One reader of the queues for all open pages of this process.

It asks Redis every :data:`WATCHED` seconds while somebody looks and rarely otherwise, at most :data:`BUDGET` commands
at a time, and keeps the last minutes in memory. Pages and event streams read what it has seen.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from taskq.client.app import TaskQ
from taskq.dashboard.read import queues as read
from taskq.dashboard.read.queues import QueueSample
from taskq.errors import BrokerError

logger = logging.getLogger("taskq.dashboard")

BUDGET = 10
"""Queues that are read in one look, at most: the others take turns."""
WATCHED = 0.6
"""Seconds between two looks while somebody looks at a page: what it shows is less than a second behind Redis."""
UNWATCHED = 5.0
LINGER = 15.0
"""How long after the last request somebody counts as looking."""
NAMES_EVERY = 5.0
BESIDE = 3
"""Commands a second that an open page may send beside those looks, so that it costs at most 20."""
KEPT = 1500
"""Moments that are kept."""
SPARK = 90
"""Moments of one queue that are kept, for its small chart."""


@dataclass(frozen=True, slots=True)
class Moment:
    """All queues together, at one time."""

    at: float
    """Epoch seconds."""
    lag: int
    pending: int
    delayed: int
    dead: int
    oldest: float
    """Seconds."""
    rate: float
    """Deliveries that ended, per second."""
    failures: float
    """Failures for good, per second."""
    retries: float
    wait: float | None
    """Mean seconds from birth to start; None when nothing started."""


@dataclass(slots=True)
class State:
    """What is known now."""

    queues: dict[str, QueueSample] = field(default_factory=dict)
    moments: deque[Moment] = field(default_factory=lambda: deque(maxlen=KEPT))
    sparks: dict[str, deque[int]] = field(default_factory=dict)
    """Queue -> its last backlogs."""
    error: str = ""
    """Why there is nothing newer; empty when all is well."""


class Sampler:
    """Reads the queues of *app* from a thread that starts with the first :meth:`touch`."""

    def __init__(self, app: TaskQ) -> None:
        self._app = app
        self._changed = threading.Condition()
        self._state = State()
        self._version = 0
        self._seen = 0.0
        self._owner = 0
        self._thread: threading.Thread | None = None
        self._names: list[str] = []
        self._named = 0.0
        self._turn = 0
        self._first: tuple[str, ...] = ()

    def touch(self, first: Iterable[str] = ()) -> None:
        """Somebody looks; *first* are the queues that are read at every look."""
        before, self._seen = self._seen, time.monotonic()
        self._first = tuple(first)
        if self._owner == os.getpid():
            if self._seen - before > LINGER:
                with self._changed:
                    self._changed.notify_all()
            return
        with self._changed:
            if self._owner != os.getpid():
                self._owner = os.getpid()
                self._thread = threading.Thread(target=self._run, name="taskq-dashboard", daemon=True)
                self._thread.start()

    def state(self, wait: float = 3.0) -> State:
        """What is known now; waits for the first look, up to *wait* seconds."""
        self.touch(self._first)
        with self._changed:
            self._changed.wait_for(lambda: self._version > 0, wait)
        return self._state

    @property
    def version(self) -> int:
        """The number of the last look."""
        return self._version

    @property
    def latest(self) -> State:
        """What is known now, without waiting."""
        return self._state

    def names(self) -> list[str]:
        """The queues there are.

        Raises:
            BrokerError: Redis could not be asked.
        """
        self.touch(self._first)
        return list(self._known())

    def _known(self) -> list[str]:
        now = time.monotonic()
        if not self._names or now - self._named > NAMES_EVERY:
            self._names, self._named = self._app.known_queues(), now
        return self._names

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is not None and self._owner == os.getpid():
            thread.join()

    def _run(self) -> None:
        me = threading.current_thread()
        while self._thread is me:
            began = time.monotonic()
            self._look()
            with self._changed:
                self._version += 1
                self._changed.notify_all()
                pause = WATCHED if began - self._seen < LINGER else UNWATCHED
                while self._thread is me and (left := began + pause - time.monotonic()) > 0:
                    self._changed.wait(left)
                    pause = WATCHED if began - self._seen < LINGER else pause

    def _look(self) -> None:
        try:
            samples = self._read()
        except BrokerError as error:
            self._state.error = str(error)
            return
        except Exception:
            logger.exception("reading the queues failed")
            self._state.error = "the dashboard's log has more"
            return
        state = self._state
        state.error = ""
        known = {**state.queues, **samples}
        state.queues = {name: known[name] for name in self._names if name in known}
        state.sparks = {name: state.sparks.get(name) or deque(maxlen=SPARK) for name in state.queues}
        for name, sample in samples.items():
            state.sparks[name].append(sample.stats.backlog)
        state.moments.append(summary(state.queues.values()))

    def _read(self) -> dict[str, QueueSample]:
        before = self._state.queues
        return {name: read.sample(self._app, name, before.get(name)) for name in self._chosen()}

    def _chosen(self) -> list[str]:
        """The queues whose turn it is."""
        names = self._known()
        if len(names) <= BUDGET:
            return names
        first = [name for name in self._first if name in names][: BUDGET // 2]
        others = [name for name in names if name not in first]
        start, count = self._turn % len(others), BUDGET - len(first)
        self._turn = start + count
        return first + (others + others)[start : start + count]


def pace(commands: int) -> int:
    """Seconds between two refreshes of a part of a page that takes so many commands: two, or as many as it costs."""
    return max(2, math.ceil(commands / BESIDE))


def summary(samples: Iterable[QueueSample]) -> Moment:
    """All queues together."""
    samples = list(samples)
    waits = [(one.wait, one.rate) for one in samples if one.wait is not None]
    weight = sum(rate for _, rate in waits)
    return Moment(
        at=time.time(),
        lag=sum(one.stats.lag for one in samples),
        pending=sum(one.stats.pending for one in samples),
        delayed=sum(one.stats.delayed for one in samples),
        dead=sum(one.stats.dead for one in samples),
        oldest=max((one.stats.oldest_age or 0.0 for one in samples), default=0.0),
        rate=sum(one.rate for one in samples),
        failures=sum(one.failures for one in samples),
        retries=sum(one.retries for one in samples),
        wait=sum(wait * rate for wait, rate in waits) / weight if weight else None,
    )
