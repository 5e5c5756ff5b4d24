"""What a consumer has settled, told to the views: so a FIFO has a throughput like every queue."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from taskq.broker import scripts
from taskq.broker.calls import Call
from taskq.broker.keys import QueueKeys
from taskq.broker.views.totals import LIVES, Sums
from taskq.client.fifo.received import ITEM

EVERY = 2.0
"""Seconds between two writes while there is something new."""


class Counts:
    """Counts on the threads that settle; written from the keeper's.

    Args:
        keys: of the FIFO's queue.
        name: of the consumer; no other has it.
    """

    def __init__(self, keys: QueueKeys, name: bytes) -> None:
        self._keys = keys
        self._name = name
        self._lock = threading.Lock()
        self._ended: Counter[str] = Counter()
        self._unwritten: Call | None = None
        self._sequence = 0
        self._next = 0.0
        self._quiet = True
        self.news: Callable[[], object] = lambda: None
        """Called when something was settled after a quiet time; must be quick."""

    def add(self, state: str) -> None:
        """An item has left the FIFO: SUCCESS, or FAILURE as a dead letter."""
        with self._lock:
            self._ended[state] += 1
            quiet, self._quiet = self._quiet, False
        if quiet:
            self.news()

    def write(self, run: Callable[[Call], object], now: float, rest: float) -> float:
        """Write what is due; seconds until the next call: *rest* when there was nothing.

        Raises:
            BrokerError: it was not written, and is kept for the next call.
        """
        if now < self._next:
            return self._next - now
        call = self._taken()
        if call is None:
            return rest
        self._next = now + EVERY
        run(call)  # sent again after an error, under its own number
        self._unwritten = None
        return EVERY

    def _taken(self) -> Call | None:
        if self._unwritten is None:
            with self._lock:
                ended, self._ended, self._quiet = self._ended, Counter(), True
            if not ended:
                return None
            self._sequence += 1
            fields = [word for state, count in ended.items() for word in (f"{state}:{ITEM}", count)]
            sums = Sums(ended.total(), ended["FAILURE"])
            self._unwritten = scripts.count(self._keys, self._name, self._sequence, sums, fields, LIVES)
        return self._unwritten
