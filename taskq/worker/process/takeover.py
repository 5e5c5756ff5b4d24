"""What a supervised worker held goes back to its queues as soon as it has died.

Its supervisor has seen it die, and need not wait for its lease to run out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from taskq.broker import scripts
from taskq.broker.keeper import is_of_family
from taskq.broker.views import inspect
from taskq.client.app import TaskQ
from taskq.errors import BrokerError

logger = logging.getLogger("taskq.supervisor")

LATE = 1.0
"""Seconds after which to look for what Redis gave to the dead worker before it knew of its end."""


def take_over(app: TaskQ, queues: Sequence[str], family: str) -> int:
    """Put back what the dead workers of *family* hold, as :mod:`taskq.broker.keeper` does; how many messages.

    Raises:
        BrokerError: Redis cannot be reached; the leases will run out instead.
    """
    total = 0
    for queue in queues:
        keys, streams = app.keys.queue(queue), _streams(app, queue)
        names = app.sync_broker.execute("ZRANGE", keys.consumers, 0, -1)
        for name in (name for name in names if is_of_family(name, family)):
            more = 1
            while more:
                moved, more, _, _ = app.sync_broker.run(scripts.recover(keys, streams, name, 1))
                total += moved
                more = more and moved
    return total


def taking_over(app: TaskQ, queues: Sequence[str]) -> Callable[[str], None]:
    """What a supervisor calls with the family of a worker that has died; does its work in a thread."""

    def work(family: str) -> None:
        try:
            moved = take_over(app, queues, family)
            if moved:
                logger.warning("a worker process died: %d messages are back in their queues", moved)
            time.sleep(LATE)
            for queue in queues:
                app.sync_broker.run(scripts.adopt(app.keys.queue(queue), _streams(app, queue)))
        except BrokerError as error:
            logger.warning("could not put back what a dead worker held (%s); its lease will run out instead", error)

    return lambda family: threading.Thread(target=work, args=(family,), daemon=True).start()


def _streams(app: TaskQ, queue: str) -> list[bytes]:
    keys = app.keys.queue(queue)
    return scripts.streams_of(keys, inspect.levels(app.sync_broker.execute, keys))
