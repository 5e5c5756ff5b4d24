"""What this worker tells the views in Redis: its record, and what it has ended.

Both are written from the keeper's thread, on its connection: at the start, every two leases, and every two seconds
while there is something new. Nothing depends on them; trouble with them never delays a renewal for long.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from taskq.broker import scripts
from taskq.broker.calls import Call
from taskq.broker.keys import Keys
from taskq.broker.link.sync import SyncConnection
from taskq.broker.views.totals import LIVES, Sums
from taskq.broker.views.workers import KEPT, WorkerRecord, pack_record
from taskq.errors import BrokerError
from taskq.worker.partition.partition import QueueLink
from taskq.worker.reporting.latest import Latest
from taskq.worker.reporting.tally import Kinds, Tally

logger = logging.getLogger("taskq.worker")

EVERY = 2.0
"""Seconds between two writes while there is something new."""
DEADLINE = 1.0
"""Longest seconds for one write, so that the next renewal is not late."""
MOST_FIELDS = 500
"""Totals written in one call."""
MOST_CALLS = 50
"""Calls in one round trip."""

Describe = Callable[[], WorkerRecord]


class Reporter:
    """Writes what one worker process tells of itself.

    Args:
        keys: of the namespace.
        links: the queues.
        lease: seconds.
        describe: makes the record; called from the keeper's thread.
        registered: whether the links' present name has its leases.
    """

    def __init__(
        self, keys: Keys, links: Sequence[QueueLink], lease: float, describe: Describe, registered: Callable[[], bool]
    ) -> None:
        self._keys = keys
        self._links = links
        self._lease = lease
        self._describe = describe
        self._registered = registered
        self._tallies = {link.queue: Tally() for link in links}
        self._latest = {link.queue: Latest() for link in links}
        self._unwritten: list[Call] = []
        self._sequence = 0
        self._next = 0.0
        self._written = 0.0
        self._shown: list[str] | None = None
        self.news: Callable[[], object] = lambda: None
        """Called on the loop's thread when something has ended after a quiet time; must be quick."""
        self._quiet = True

    def settled(self, link: QueueLink, kinds: Kinds) -> None:
        """Redis has accepted these outcomes. On the loop's thread."""
        self._tallies[link.queue].add(kinds)
        self._latest[link.queue].add(kinds)
        if self._quiet:
            self._quiet = False
            self.news()

    def tick(self, connection: SyncConnection, now: float) -> float:
        """Write what is due; seconds until the next call."""
        if now < self._next or not self._registered():
            return max(self._next - now, EVERY / 4)
        self._next = now + EVERY
        deadline = now + min(DEADLINE, self._lease / 6)
        try:
            busy = self._write_counts(connection, deadline)
            busy = self._write_record(connection, now, deadline) or busy
        except BrokerError as error:
            logger.debug("cannot write the worker's record: %s", error)
            return EVERY
        return EVERY if busy else self._lease

    def last_calls(self) -> list[Call]:
        """The calls that count what has not been counted yet; for the end, when the keeper has stopped."""
        self._collect()
        return self._unwritten

    @property
    def record_key(self) -> bytes:
        """Where the record stands."""
        return self._keys.worker(self._links[0].consumer)

    def counted(self) -> tuple[int, int]:
        """How many deliveries left their queue through this worker, and how many of them failed."""
        tallies = self._tallies.values()
        return sum(tally.ended for tally in tallies), sum(tally.failed for tally in tallies)

    def _write_counts(self, connection: SyncConnection, deadline: float) -> bool:
        self._quiet = True  # before the look: what ends from here on is news again
        found = bool(self._unwritten) or self._collect()
        while page := self._unwritten[:MOST_CALLS]:
            answers = connection.run_all(page, deadline)
            # what was refused is sent again under its own number
            refused = [call for call, answer in zip(page, answers, strict=True) if isinstance(answer, BrokerError)]
            self._unwritten[: len(page)] = refused
            if refused:
                break
        return found

    def _collect(self) -> bool:
        found = False
        for link in self._links:
            taken = self._tallies[link.queue].take()
            if taken is None:
                continue
            found = True
            sums, fields = taken
            sample = self._latest[link.queue].take(link.consumer)
            for start in range(0, len(fields), 2 * MOST_FIELDS):
                self._sequence += 1
                part = fields[start : start + 2 * MOST_FIELDS]
                minute = sums if start == 0 else Sums()
                rows = sample if start == 0 else ([], [])
                call = scripts.count(link.keys, link.consumer, self._sequence, minute, part, LIVES, rows)
                self._unwritten.append(call)
        return found

    def _write_record(self, connection: SyncConnection, now: float, deadline: float) -> bool:
        """Write the record if it is old or shows other runs; whether something runs, or did the last time."""
        record = self._describe()
        shown = [run.id for run in record.running]
        changed = shown != self._shown
        if changed or now - self._written >= self._lease * (1 if shown else 2):
            ttl_ms = round(KEPT * 1000)
            connection.execute("SET", self.record_key, pack_record(record), "PX", ttl_ms, deadline=deadline)
            self._shown, self._written = shown, now
        return changed or bool(shown)
