"""What has ended, counted without looking at every delivery more than once: thousands may end in a millisecond."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from operator import itemgetter

from taskq.broker.calls import Arg
from taskq.broker.scripts.settling import Release
from taskq.broker.views.totals import HANDED_BACK, RUNTIME, Sums
from taskq.client.hooks import Settled, Unusual
from taskq.values.delivery import Delivery
from taskq.values.message import PLAIN
from taskq.worker.partition.settling import Ended, Outcome

OTHER = "other"
"""The name under which tasks that this worker does not know are counted."""
EVERY_ONE = 16
"""Up to so many successes of a task that ended together, every one's times are looked at; of more, every eighth's."""
STRIDE = 8

Kinds = Mapping[tuple[str, str], list[Ended]]
"""State and task name -> what ended so."""

_runtime = itemgetter(2)


def by_kind(batch: Sequence[Ended]) -> Kinds:
    """*batch* by how it ended. Neighbours are mostly of one kind, so they are compared and cut out together."""
    kinds: dict[tuple[str, str], list[Ended]] = {}
    begin, task, state = 0, None, ""

    def cut(end: int) -> None:
        name = OTHER if batch[begin][0].task is None else batch[begin][0].message.task
        known = kinds.get((state, name))
        if known is None:
            kinds[state, name] = list(batch[begin:end])
        else:
            known.extend(batch[begin:end])

    for index, (delivery, outcome, _) in enumerate(batch):
        if delivery.task is not task or outcome[1] != state:
            if index > begin:
                cut(index)
            begin, task, state = index, delivery.task, outcome[1]
    if batch:
        cut(len(batch))
    return kinds


class Tally:
    """What has ended in one queue and is not written yet. Counted on the loop's thread, taken on the keeper's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cells: dict[tuple[str, str], list[float]] = {}
        self._waits = 0
        self._wait = 0.0
        self.ended = self.failed = 0
        """Since the start: deliveries that left the queue, and those of them that failed for good."""

    def add(self, kinds: Kinds) -> None:
        """Count what ended; the wait of the first of a kind stands for those of the others."""
        offset = time.time() - time.monotonic()
        with self._lock:
            for key, batch in kinds.items():
                cell = self._cells.setdefault(key, [0, 0.0])
                cell[0] += len(batch)
                cell[1] += sum(map(_runtime, batch))
                if batch[0][0].started:
                    self._waits += 1
                    self._wait += wait_of(batch[0][0], offset)

    def take(self) -> tuple[Sums, list[Arg]] | None:
        """The sums and the fields of the totals since the last call; None when nothing has ended."""
        with self._lock:
            cells, waits, wait = self._cells, self._waits, self._wait
            self._cells, self._waits, self._wait = {}, 0, 0.0
        if not cells:
            return None
        fields: list[Arg] = []
        ended = failed = retried = 0
        runtimes: dict[str, float] = {}
        for (state, task), (count, runtime) in cells.items():
            fields += (f"{state}:{task}", int(count))
            runtimes[task] = runtimes.get(task, 0.0) + runtime
            ended += int(count) if state != HANDED_BACK else 0
            failed += int(count) if state == "FAILURE" else 0
            retried += int(count) if state == "RETRY" else 0
        for task, runtime in runtimes.items():
            fields += (f"{RUNTIME}:{task}", round(runtime * 1000))
        self.ended += ended
        self.failed += failed
        runtime_ms = round(sum(runtimes.values()) * 1000)
        return Sums(ended, failed, retried, runtime_ms, waits, round(wait * 1000)), fields


def wait_of(delivery: Delivery, offset: float) -> float:
    """Seconds from birth in the queue to start; *offset* is this host's epoch time less its monotonic one."""
    return max(delivery.started + offset - int(delivery.entry.partition(b"-")[0]) / 1000, 0.0)


def settled_of(queue: str, kinds: Kinds) -> list[Settled]:
    """What listeners are told of *kinds*."""
    offset = time.time() - time.monotonic()
    found = []
    for (state, task), batch in kinds.items():
        started = batch if state == "SUCCESS" else [item for item in batch if item[2] > 0]
        each = 1 if len(started) <= EVERY_ONE else STRIDE
        times = [(item[2], wait_of(item[0], offset) if item[0].started else 0.0) for item in started[::each]]
        rare = [item for item in batch if item[0].crashes or item[0].message.meta is not None]
        unusual = [_unusual_of(*item, offset) for item in rare]
        runtime = sum(map(_runtime, started))
        found.append(Settled(task, queue, state, len(batch), len(started), runtime, each, times, unusual))
    return found


def _unusual_of(delivery: Delivery, outcome: Outcome, runtime: float, offset: float) -> Unusual:
    meta = delivery.message.meta or PLAIN
    # a message that goes back keeps its crashes, and tells them when it ends
    crashes = 0 if isinstance(outcome.end, Release) else delivery.crashes
    late = None
    if meta.due and meta.attempt == 1 and delivery.started:
        late = max(delivery.started + offset - meta.due / 1000, 0.0)
    header = (meta.headers or {}).get("traceparent")
    trace = header.split("-")[1] if isinstance(header, str) and header.count("-") == 3 else ""
    return Unusual(crashes, late, trace, runtime, wait_of(delivery, offset) if trace and delivery.started else 0.0)
