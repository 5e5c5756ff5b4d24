"""Hooks: what happens in this process, told to whoever listens; features such as metrics do, the core imports none.

=================  ==============================================  ======================================
hook               argument                                        when
=================  ==============================================  ======================================
``settled``        list of :class:`Settled`                        outcomes were accepted by Redis
``recovered``      queue name, number of messages                  a dead worker's messages were taken over
``lease_lost``     queue name                                      this worker's own lease was lost
``unknown_task``   queue name, task name                           handed back: no such task here
``trimmed_unread`` queue name of the group, number of events       a topic dropped events before a group saw them
=================  ==============================================  ======================================

Listeners run on the worker's threads and must be quick; one that raises is logged and left in place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

logger = logging.getLogger("taskq.hooks")

NAMES = ("settled", "recovered", "lease_lost", "unknown_task", "trimmed_unread")


class Settled(NamedTuple):
    """One delivery that has ended."""

    task: str
    queue: str
    state: str
    """SUCCESS, FAILURE, RETRY, REVOKED, EXPIRED, SKIPPED or RELEASED."""
    runtime: float
    """Seconds it ran; 0 when it did not start."""
    wait: float
    """Seconds between the entry's birth in the queue and its start, by this host's clock."""


class Hooks:
    """The listeners of one app: ``app.hooks``."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Callable[..., None]]] = {name: [] for name in NAMES}

    def listen(self, name: str, listener: Callable[..., None]) -> None:
        """Call *listener* whenever *name* happens.

        Raises:
            KeyError: there is no such hook.
        """
        self._listeners[name].append(listener)

    def has_listeners(self, name: str) -> bool:
        """Whether anybody listens, so that the hot path can skip building arguments."""
        return bool(self._listeners[name])

    def emit(self, name: str, *args: Any) -> None:
        """Tell the listeners of *name*."""
        for listener in self._listeners[name]:
            try:
                listener(*args)
            except Exception:
                logger.exception("a listener of %r failed", name)
