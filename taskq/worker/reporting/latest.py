"""Which of the messages that ended views are shown: a bounded sample between two reports."""

from __future__ import annotations

import threading
import time

from msgspec.structs import replace

from taskq.broker.calls import Arg
from taskq.broker.views import ended
from taskq.worker.partition.settling import Ended
from taskq.worker.reporting.tally import Kinds

Rows = tuple[list[Arg], list[Arg]]
"""What succeeded, and what ended otherwise."""


class Latest:
    """The sample of one queue. Filled on the loop's thread, taken on the keeper's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[bool, list[ended.EndedMessage]] = {True: [], False: []}

    def add(self, kinds: Kinds) -> None:
        """Keep of what ended as many as there is room for; costs next to nothing once there is none."""
        for (state, _), batch in kinds.items():
            if state in ended.STATES:
                well = state == ended.WELL
                if len(self._kept[well]) < ended.EACH:
                    now = round(time.time() * 1000)
                    with self._lock:
                        kept = self._kept[well]
                        # not the deliveries themselves: their arguments may be large
                        kept.extend(_short(now, item) for item in batch[: ended.EACH - len(kept)])

    def take(self, worker: bytes) -> Rows:
        """The packed sample since the last call."""
        with self._lock:
            kept, self._kept = self._kept, {True: [], False: []}
        name = worker.decode(errors="replace")
        well: list[Arg] = [ended.pack(replace(message, worker=name)) for message in kept[True]]
        return well, [ended.pack(replace(message, worker=name)) for message in kept[False]]


def _short(at: int, item: Ended) -> ended.EndedMessage:
    delivery, outcome, runtime = item
    message = delivery.message
    return ended.EndedMessage(
        at=at,
        state=outcome.state,
        task=message.task,
        id=message.task_id,
        worker="",
        attempt=delivery.attempt,
        runtime=runtime,
        kept=bool(outcome.stored) or outcome.state == "FAILURE",
    )
