"""Ends a worker that has been told to stop, also while a task keeps the event loop from doing so."""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import threading
from collections.abc import Callable
from typing import Any

from taskq.errors import BrokerError, ExitCode
from taskq.worker.process.supervisor import Repeated
from taskq.worker.running.exit import exit_with
from taskq.worker.worker import Worker

logger = logging.getLogger("taskq.worker")

ANSWERS_WITHIN = 2.0
"""Seconds without a turn of the event loop after which it counts as blocked, once the shutdown timeout is over."""
LINGER = 2.0
"""Seconds that what was handed back may still take to end by itself: coroutines that clean up, threads."""


class Deadline:
    """Watches from a thread that the stop of *worker* comes to its end.

    The signal handlers of an event loop, and the orders of a supervisor, are carried out on the loop. A coroutine that
    never gives it back, say with ``time.sleep``, would hold up the stop for as long as it likes.

    Args:
        worker: what is to stop.
        timeout: seconds that running tasks may take after the first signal.
    """

    def __init__(self, worker: Worker, timeout: float) -> None:
        self._worker = worker
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._orders = itertools.count()
        self._hurried = False
        self._repeated = Repeated()
        self._hurry = threading.Event()
        self._ended = threading.Event()

    def watch(self, number: signal.Signals) -> None:
        """Start with this signal, for which the event loop has a handler already: it is told all the same."""
        signal.signal(number, self._note)

    def end(self) -> None:
        """The worker has stopped."""
        self._ended.set()
        self._hurry.set()

    def begin(self, *, hurry: bool) -> None:
        """Note an order to stop. It may come from any thread, and from a signal handler.

        Args:
            hurry: what runs is to be handed back at once, without waiting for the timeout.
        """
        if next(self._orders) == 0:  # atomic: a signal and the supervisor may come at the same time
            threading.Thread(target=self._run, name="taskq-deadline", daemon=True).start()
        if hurry:
            self._hurried = True
            self._hurry.set()

    def _note(self, number: int, frame: Any) -> None:
        again = number in (signal.SIGTERM, signal.SIGINT) and self._repeated.note()
        self.begin(hurry=again or number == signal.SIGQUIT)

    def _run(self) -> None:
        self._hurry.wait(self._timeout)
        while not self._ended.is_set():
            turned = threading.Event()
            try:
                self._loop.call_soon_threadsafe(turned.set)
            except RuntimeError:  # the loop is closed
                return
            if not turned.wait(ANSWERS_WITHIN) and not self._ended.is_set():
                self._hand_back()
                exit_with(ExitCode.INTERRUPTED if self._hurried else ExitCode.OK)
            self._ended.wait(ANSWERS_WITHIN)

    def _hand_back(self) -> None:
        logger.warning("a task blocks the event loop: handing back what runs, and ending without it")
        try:
            self._worker.hand_back_from_outside()
        except BrokerError as error:
            logger.warning("could not hand back (%s); the lease will run out instead", error)


def closing(close: Callable[[], object], code: ExitCode) -> None:
    """Call *close*, which waits for what still runs, and end the process if that takes too long."""
    limit = threading.Timer(LINGER, exit_with, (code,))
    limit.daemon = True
    limit.start()
    try:
        close()
    finally:
        limit.cancel()
