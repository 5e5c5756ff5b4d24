"""How much a worker holds counts in bytes as well as in messages."""

from __future__ import annotations

import gc
import threading
from collections import deque
from types import SimpleNamespace
from typing import Any

from support.wait import eventually
from support.worker import RunningWorker, running_worker

from taskq import TaskQ
from taskq.broker.keys import Keys
from taskq.broker.scripts import MAX_PER_CALL
from taskq.broker.scripts.settling import COMPLETE
from taskq.values.delivery import Delivery
from taskq.worker.partition.partition import MANY_BYTES, QueueLink
from taskq.worker.partition.settling import DONE, Outcome
from taskq.worker.partition.sizes import BUDGET, FIRST, SLOW, Sizes

MB = 1024 * 1024


def messages(*sizes: int) -> list[Any]:
    return [SimpleNamespace(data=b"x" * size) for size in sizes]


def knowing(*sizes: int) -> Sizes:
    known = Sizes()
    known.note(messages(*sizes))
    return known


def test_before_anything_is_known_few_messages_are_asked_for() -> None:
    assert Sizes().page == FIRST


def test_small_messages_come_in_full_pages() -> None:
    known = knowing(*[300] * FIRST)
    assert known.page == MAX_PER_CALL
    assert not known.large
    known.note(messages(*[300] * 500))
    known.replied(MAX_PER_CALL, SLOW / 2)
    assert known.page == MAX_PER_CALL


def test_large_messages_come_in_pages_of_so_many_bytes() -> None:
    known = knowing(2 * MB)
    assert known.large
    assert known.page == BUDGET // (2 * MB)


def test_one_that_is_larger_than_all_that_may_be_held_comes_alone() -> None:
    assert knowing(2 * BUDGET).page == 1


def test_a_few_large_messages_among_small_ones_are_reckoned_with() -> None:
    known = knowing(*[100] * 60, 8 * MB)
    assert known.page <= BUDGET // MB
    for _ in range(10):
        known.note(messages(*[100] * 100))
    assert known.page == MAX_PER_CALL, "they came long ago"


def test_after_a_slow_reply_less_is_asked_for_until_replies_are_quick_again() -> None:
    known = knowing(100)
    known.replied(500, 10 * SLOW)
    assert known.page == 50
    known.replied(20, SLOW / 2)
    assert known.page == 50, "half a page says nothing"
    pages = []
    for _ in range(5):
        known.replied(known.page, SLOW / 2)
        pages.append(known.page)
    assert pages == [100, 200, 400, 800, MAX_PER_CALL]


def test_a_reply_that_was_lost_is_asked_for_in_smaller_pages() -> None:
    known = knowing(100)
    known.lost(512)
    assert known.page == 256
    known.lost(1)
    assert known.page == 1


def link_with(*outcomes: Outcome) -> QueueLink:
    link = QueueLink(Keys("t").queue("q"), b"me")
    items: list[Any] = []
    for n, outcome in enumerate(outcomes):
        delivery = SimpleNamespace(key=(b"stream", b"%d" % n))
        link.held[delivery.key] = delivery  # type: ignore[assignment]
        items.append((delivery, outcome, 0.0))
    link.ended = deque(items)
    return link


def result(size: int) -> Outcome:
    return Outcome(COMPLETE, "SUCCESS", b"x" * size, 1000)


def test_large_results_leave_in_calls_of_so_many_bytes() -> None:
    link = link_with(*[result(MANY_BYTES // 4)] * 6)
    assert [len(link.take_ended(1000)) for _ in range(3)] == [4, 2, 0]


def test_a_single_large_result_leaves_alone() -> None:
    link = link_with(result(100), DONE, result(3 * MANY_BYTES), DONE, result(100))
    assert [[len(outcome.stored) for _, outcome, _ in link.take_ended(1000)] for _ in range(3)] == [
        [100, 0],
        [3 * MANY_BYTES, 0],
        [100],
    ]


def test_small_results_leave_together() -> None:
    link = link_with(*[DONE, result(100)] * 400)
    assert len(link.take_ended(1000)) == 800


def held(worker: RunningWorker) -> int:
    return sum(len(delivery.data) for link in worker.worker._links for delivery in list(link.held.values()))


def test_a_worker_holds_so_many_bytes_and_no_more(app: TaskQ) -> None:
    """Short tasks: by their number alone, all sixty would be held."""
    size, slots, found = MB, 2, []
    worker: RunningWorker

    @app.task
    def weigh(data: bytes) -> None:
        found.append(held(worker))

    weigh.delay_many([(b"x" * size,) for _ in range(60)])
    with running_worker(app, concurrency=slots) as worker:
        eventually(lambda: len(found) == 60)
    assert max(found) <= BUDGET + (slots + 1) * (size + 200)


def test_while_nothing_ends_large_messages_stay_in_the_queue(app: TaskQ) -> None:
    size, go = 2 * MB, threading.Event()
    begun: list[int] = []

    @app.task
    def wait(data: bytes) -> None:
        begun.append(len(data))
        assert go.wait(20)

    wait.delay_many([(b"x" * size,) for _ in range(20)])
    try:
        with running_worker(app, concurrency=3) as worker:
            eventually(lambda: len(begun) == 3)
            eventually(lambda: held(worker) <= 3 * (size + 200))
            go.set()
            eventually(lambda: len(begun) == 20)
    finally:
        go.set()


def test_what_has_ended_is_let_go_of(app: TaskQ) -> None:
    """Nothing that idles keeps arguments: neither a thread, nor the read, nor what views are told."""

    @app.task
    def take(data: bytes) -> None: ...

    @app.task
    async def atake(data: bytes) -> None: ...

    def kept() -> list[Delivery]:
        gc.collect()
        return [each for each in gc.get_objects() if type(each) is Delivery]

    with running_worker(app, concurrency=2):
        for task in (take, atake):
            for sent in task.delay_many([(b"x" * 1000,) for _ in range(20)]):
                sent.get(timeout=20)
        eventually(lambda: not kept(), message=lambda: f"{len(kept())} are kept")
