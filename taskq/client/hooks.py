"""Hooks: what happens in this process, told to whoever listens; features such as metrics do, the core imports none.

====================  ===================================  =======================================================
hook                  listeners get                        when
====================  ===================================  =======================================================
``settled``           a list of :class:`Settled`           Redis has accepted how deliveries ended
``recovered``         queue, messages                      a dead worker's messages were taken over
``lease_lost``        queue                                this worker's lease was lost
``unknown_task``      queue, task                          a message was handed back: its task is not known here
``trimmed_unread``    queue of the group, events           a topic dropped events before the group saw them
``dlq_removed``       queue, reason, dead letters          a retention has deleted them
``renewed``           seconds                              a lease was renewed; how long that took
``sent``              queue, messages, seconds             a call that sends has returned
``send_failed``       queue                                such a call has raised
``schedule_fired``    schedule, queue, fire time, seconds  its message was sent, so much later
``schedule_skipped``  schedule, queue, fire time           the message before has not ended, and ``overlap`` skips
``schedule_missed``   schedule, queue, fire times          so many were missed
``clock_skew``        seconds                              how far this host's clock is ahead of Redis's
====================  ===================================  =======================================================

Listeners run on the threads where it happens and must be quick; one that raises is logged and left in place.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from taskq.errors import ConfigError, TaskqError, suggestion
from taskq.values.checks import check_function, shown
from taskq.values.functions import check_ordinary

logger = logging.getLogger("taskq.hooks")

NAMES = (
    "settled",
    "recovered",
    "lease_lost",
    "unknown_task",
    "trimmed_unread",
    "dlq_removed",
    "renewed",
    "sent",
    "send_failed",
    "schedule_fired",
    "schedule_skipped",
    "schedule_missed",
    "clock_skew",
)


class Unusual(NamedTuple):
    """What only some deliveries have."""

    crashes: int = 0
    """Processes that died while they ran it, since it was last sent or retried."""
    late: float | None = None
    """Seconds from the time that was asked for to the start, of a first attempt."""
    trace: str = ""
    """Trace id of the header ``traceparent``."""
    runtime: float = 0.0
    wait: float = 0.0
    """The seconds of a traced one; see :class:`Settled`."""


class Settled(NamedTuple):
    """Deliveries of one task that have ended in the same way, together."""

    task: str
    """``other`` where this process does not know it."""
    queue: str
    state: str
    """SUCCESS, FAILURE, RETRY, REVOKED, EXPIRED, SKIPPED or RELEASED."""
    ended: int
    """How many."""
    started: int
    """How many of them have run."""
    runtime: float
    """Seconds that these ran, in all."""
    each: int
    """How many of them one of *times* stands for; the last one may stand for fewer."""
    times: Sequence[tuple[float, float]]
    """Seconds that a run took, and seconds from the entry's birth in the queue to its start, by this host's clock."""
    unusual: Sequence[Unusual] = ()


class Hooks:
    """The listeners of one app: ``app.hooks``."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Callable[..., None]]] = {name: [] for name in NAMES}

    def listen(self, name: str, listener: Callable[..., None]) -> None:
        """Call *listener* whenever *name* happens.

        Raises:
            ConfigError: there is no such hook, or *listener* is not a function.
        """
        if not isinstance(name, str) or name not in NAMES:
            raise ConfigError(f"there is no hook {shown(name)}; {suggestion(name, NAMES)}")
        check_ordinary(check_function(listener, "a listener"), "a listener")
        self._listeners[name].append(listener)

    def has_listeners(self, name: str) -> bool:
        """Whether anybody listens, so that the hot path can skip building arguments."""
        return bool(self._listeners[name])

    @contextmanager
    def sending(self, queues: Iterable[str]) -> Iterator[None]:
        """Tell of a call that sends a message to each of *queues* (named as often as there are messages)."""
        began, counts = time.monotonic(), Counter(queues)
        try:
            yield
        except TaskqError:
            for queue in counts:
                self.emit("send_failed", queue)
            raise
        took = time.monotonic() - began
        for queue, count in counts.items():
            self.emit("sent", queue, count, took)

    def emit(self, name: str, *args: Any) -> None:
        """Tell the listeners of *name*."""
        for listener in self._listeners[name]:
            try:
                listener(*args)
            except Exception:
                logger.exception("a listener of %r failed", name)
