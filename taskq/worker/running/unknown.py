"""What a worker says of tasks that it does not know, and how long it leaves their messages: a backlog of them is
looked at again and again, so both are bounded."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger("taskq.worker")

LOG_EVERY = 60.0
"""Seconds between two lines about one task of one queue."""
MOST_NAMES = 1000
"""Names that are kept apart; the others share one line."""
LONGEST_DELAY_MS = 60_000
"""Longest that a message is put back for, unless the setting says more."""


class UnknownTasks:
    """Logs each unknown task once a minute."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}
        """When the next line may be written, and how many messages came since the last."""

    def note(self, queue: str, task: str) -> None:
        """A message of *task* is handed back to *queue*."""
        key = (queue, task)
        if key not in self._seen and len(self._seen) >= MOST_NAMES:
            key = (queue, "other tasks")
        due, count = self._seen.get(key, (0.0, 0))
        now = time.monotonic()
        if now < due:
            self._seen[key] = (due, count + 1)
            return
        self._seen[key] = (now + LOG_EVERY, 0)
        since = f", {count} more since the last such line" if count else ""
        logger.warning("queue %s: task %r is not known to this worker; handed back%s", queue, key[1][:200], since)


def delay_ms(base_ms: int, known_for_ms: int) -> int:
    """How long to put back a message whose task has been unknown for *known_for_ms*: twice as long each time."""
    return max(base_ms, min(known_for_ms, LONGEST_DELAY_MS))
