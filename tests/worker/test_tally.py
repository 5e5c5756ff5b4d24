"""Counting what has ended: by task and state, in whatever order it came."""

from __future__ import annotations

import time
from typing import Any

from taskq import TaskQ
from taskq.broker.scripts.settling import COMPLETE, Release
from taskq.values.delivery import Delivery
from taskq.values.message import Message as Wire
from taskq.values.message import Meta, decode, encode
from taskq.worker.partition.settling import DONE, Ended, Outcome
from taskq.worker.reporting.tally import EVERY_ONE, STRIDE, by_kind, settled_of

APP = TaskQ("test")
PAY = APP.task(name="pay")(lambda: None)
SHIP = APP.task(name="ship")(lambda: None)
FAILED = Outcome(COMPLETE, "FAILURE")
BACK = Outcome(Release(), "RELEASED")


def ended(task: Any, outcome: Outcome = DONE, runtime: float = 0.5, crashes: int = 0, **meta: Any) -> Ended:
    message = decode(encode(Wire(1, "id", task.name if task else "what", [], {}, Meta(**meta) if meta else None)))
    entry = b"%d-0" % (time.time() * 1000 - 2000)
    delivery = Delivery(None, (b"stream", entry), b"", message, task, crashes or None)
    delivery.started = time.monotonic() if runtime else 0.0
    return delivery, outcome, runtime


def counts(batch: list[Ended]) -> dict[tuple[str, str], int]:
    return {kind: len(items) for kind, items in by_kind(batch).items()}


def test_kinds_are_told_apart_in_any_order() -> None:
    batch = [
        ended(PAY),
        ended(PAY),
        ended(SHIP),
        ended(PAY),
        ended(PAY, FAILED),
        ended(None, FAILED),
        ended(None, BACK),
    ]
    assert counts(batch) == {
        ("SUCCESS", "pay"): 3,
        ("SUCCESS", "ship"): 1,
        ("FAILURE", "pay"): 1,
        ("FAILURE", "other"): 1,
        ("RELEASED", "other"): 1,
    }
    assert by_kind([]) == {}


def test_what_did_not_start_has_no_times() -> None:
    (told,) = settled_of("q", by_kind([ended(PAY, FAILED), ended(PAY, FAILED, runtime=0)]))
    assert (told.ended, told.started, told.runtime, len(told.times)) == (2, 1, 0.5, 1)
    assert 1.9 < told.times[0][1] < 60


def test_of_a_large_batch_every_eighth_is_looked_at() -> None:
    (told,) = settled_of("q", by_kind([ended(PAY)] * (EVERY_ONE + 1)))
    assert (told.ended, told.started, told.each) == (EVERY_ONE + 1, EVERY_ONE + 1, STRIDE)
    assert len(told.times) == -(-(EVERY_ONE + 1) // STRIDE)
    assert told.runtime == 0.5 * (EVERY_ONE + 1)


def test_crashes_are_told_when_the_message_has_ended() -> None:
    told = settled_of("q", by_kind([ended(PAY, crashes=2), ended(PAY, BACK, crashes=1)]))
    assert [[rare.crashes for rare in one.unusual] for one in told] == [[2], [0]]


def test_lateness_is_that_of_the_first_attempt() -> None:
    due = round(time.time() * 1000) - 3000
    (told,) = settled_of("q", by_kind([ended(PAY, due=due), ended(PAY, due=due, attempt=2)]))
    late = [rare.late for rare in told.unusual]
    assert late[0] is not None
    assert 2.9 < late[0] < 60
    assert late[1] is None
