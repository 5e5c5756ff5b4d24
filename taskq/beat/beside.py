"""A beat in a thread of a worker process: what becomes of the process when the beat dies."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

from taskq.beat.beat import READY_WITHIN, Beat

logger = logging.getLogger("taskq.beat")


class BesideWorker:
    """Runs a beat in a thread. Should it die, the process is told to drain, and whoever supervises it starts it again.

    Args:
        beat: not running yet.
    """

    def __init__(self, beat: Beat) -> None:
        self._beat = beat
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="taskq-beat", daemon=True)
        self._started = 0.0
        self.died = False
        """Whether the beat has ended without being told to."""

    def start(self) -> None:
        """Begin to fire."""
        self._started = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """End the beat; waits for a call to Redis that is under way."""
        self._stop.set()
        self._thread.join(timeout=5)

    def is_sound(self) -> bool:
        """Whether the beat lives, and Redis has answered it lately (or it has just begun)."""
        return not self.died and (self._beat.ready or time.monotonic() - self._started < READY_WITHIN)

    def _run(self) -> None:
        try:
            self._beat.run(self._stop)
        except BaseException:  # SystemExit too would end this thread without a word
            self.died = True
            logger.critical("the beat of this worker has died; the worker stops, with exit code 1", exc_info=True)
            os.kill(os.getpid(), signal.SIGTERM)
