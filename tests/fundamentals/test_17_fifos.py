"""FIFOs: items from one program to another, each to one consumer, acknowledged; no task is needed."""

from __future__ import annotations

import asyncio
import gc
import queue as standard
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from support.wait import eventually
from support.worker import run_async

from taskq import (
    ConfigError,
    Fifo,
    Item,
    ItemSettledError,
    LeaseLostError,
    QueueClosedError,
    QueueEmptyError,
    SerializationError,
    TaskQ,
)
from taskq.worker.worker import Worker, WorkerOptions

LONG = 30
"""Seconds that no wait here needs."""


def take(fifo: Fifo) -> Any:
    """The next value, acknowledged."""
    with fifo.get(timeout=LONG) as item:
        return item.value


def test_what_is_put_first_is_received_first(app: TaskQ) -> None:
    jobs = app.queue("jobs")
    put = jobs.put("first")
    assert jobs.put_many(range(2500)) == 2500
    assert jobs.size() == len(jobs) == 2501
    with jobs.get(timeout=LONG) as item:
        assert (item.value, item.id, item.deliveries) == ("first", put, 1)
    assert [take(jobs) for _ in range(20)] == list(range(20))
    assert jobs.purge() == 2480


def test_a_value_is_plain_data_as_the_arguments_of_a_task(app: TaskQ) -> None:
    jobs = app.queue("jobs")
    value = {"n": 1, "at": datetime(2026, 1, 2, tzinfo=UTC), "raw": b"\x00\xff", "none": None, "list": [1.5, True]}
    jobs.put(value)
    jobs.put(None)
    assert take(jobs) == value
    assert take(jobs) is None
    with pytest.raises(SerializationError, match="an item of a FIFO cannot be serialized"):
        jobs.put(object())
    with pytest.raises(SerializationError):
        jobs.put_many([1, object()])
    assert jobs.size() == 0


def test_get_waits_until_something_is_put(app: TaskQ, make_app: Callable[..., TaskQ]) -> None:
    jobs = app.queue("jobs")
    received: list[Any] = []
    waiter = threading.Thread(target=lambda: received.append(take(jobs)))
    waiter.start()
    eventually(lambda: workers(app) == 1, timeout=LONG)
    make_app().queue("jobs").put("news")
    waiter.join(LONG)
    assert received == ["news"]


def test_an_empty_fifo_is_a_typed_error_after_the_timeout(app: TaskQ) -> None:
    jobs = app.queue("jobs")
    for caught in (QueueEmptyError, TimeoutError, standard.Empty):
        with pytest.raises(caught):
            jobs.get(timeout=0)
    began = time.monotonic()
    with pytest.raises(QueueEmptyError, match="fifo:jobs had no item in time"):
        jobs.get(timeout="200ms")
    assert time.monotonic() - began >= 0.2
    assert jobs, "an empty FIFO is one too"


def test_a_block_acknowledges_and_gives_back_to_the_front_when_it_raises(app: TaskQ) -> None:
    jobs = app.queue("jobs")
    jobs.put_many([1, 2])
    with pytest.raises(ZeroDivisionError), jobs.get(timeout=LONG) as item:
        assert item.value / 0
    assert [take(jobs), take(jobs)] == [1, 2]
    assert (jobs.size(), workers(app)) == (0, 1)


def test_release_is_to_the_front_and_charges_nothing(app: TaskQ) -> None:
    jobs = app.queue("jobs")
    jobs.put_many(list("abc"))
    first, second = jobs.get(timeout=LONG), jobs.get(timeout=LONG)
    first.release()
    second.release()
    for expected in "abc":
        with jobs.get(timeout=LONG) as item:
            assert (item.value, item.deliveries) == (expected, 1)


def test_a_rejected_item_is_a_dead_letter_that_can_be_replayed(app: TaskQ) -> None:
    jobs = app.queue("jobs")
    jobs.put({"order": 7})
    jobs.get(timeout=LONG).reject("no such order")
    (letter,) = app.dlq.list("fifo:jobs")
    assert letter.message is not None
    assert (letter.evidence.reason, letter.evidence.error) == ("rejected", "no such order")
    assert letter.message.args == [{"order": 7}]
    assert app.dlq.replay(queue="fifo:jobs") == 1
    assert take(jobs) == {"order": 7}
    (run,) = app.dlq.runs("fifo:jobs")
    assert (run.total.replayed, run.total.succeeded) == (1, 1)


def test_an_item_is_settled_once(app: TaskQ) -> None:
    jobs = app.queue("jobs")
    jobs.put(1)
    item = jobs.get(timeout=LONG)
    item.ack()
    for settle in (item.ack, item.release, item.reject):
        with pytest.raises(ItemSettledError, match="acknowledged already"):
            settle()
    with item:  # leaving a block that settled by itself is fine
        pass


def test_iterating_ends_when_the_fifo_is_closed(app: TaskQ) -> None:
    jobs = app.queue("jobs")
    jobs.put_many(range(3))
    seen: list[int] = []

    def consume() -> None:
        for item in jobs:
            with item:
                seen.append(item.value)

    consumer = threading.Thread(target=consume)
    consumer.start()
    eventually(lambda: len(seen) == 3, timeout=LONG)
    jobs.close()
    consumer.join(LONG)
    assert not consumer.is_alive()
    assert seen == [0, 1, 2]
    for use in (jobs.get, lambda: jobs.put(1), lambda: jobs.put_many([1])):
        with pytest.raises(QueueClosedError, match=r"app.queue\('jobs'\) opens it again"):
            use()
    assert app.queue("jobs") is not jobs


def test_what_was_not_settled_goes_back_when_the_fifo_is_closed(app: TaskQ) -> None:
    with app.queue("jobs", prefetch=10) as jobs:
        jobs.put_many(range(4))
        item = jobs.get(timeout=LONG)
    with pytest.raises(LeaseLostError):
        item.ack()
    again = app.queue("jobs")
    assert again.size() == 4
    assert [take(again) for _ in range(4)] == [0, 1, 2, 3]


def test_prefetched_items_keep_their_order(app: TaskQ) -> None:
    jobs = app.queue("jobs", prefetch=100)
    jobs.put_many(range(250))
    assert [take(jobs) for _ in range(250)] == list(range(250))


def test_many_threads_share_a_fifo(app: TaskQ) -> None:
    jobs = app.queue("jobs")
    jobs.put_many(range(300))
    seen: list[int] = []

    def drain() -> None:
        try:
            while True:
                with jobs.get(timeout=0) as item:
                    seen.append(item.value)
        except QueueEmptyError:
            pass

    threads = [threading.Thread(target=drain) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * LONG)
    assert sorted(seen) == list(range(300))


def test_async_put_get_and_settle(app: TaskQ) -> None:
    async def main() -> None:
        jobs = app.queue("jobs")
        await jobs.aput("a")
        assert await jobs.aput_many(list("bcd")) == 3
        assert await jobs.asize() == 4
        async with await jobs.aget(timeout=LONG) as item:
            assert item.value == "a"
        with pytest.raises(ZeroDivisionError):
            async with await jobs.aget(timeout=LONG):
                _ = 1 / 0
        released = await jobs.aget(timeout=LONG)
        assert released.value == "b"
        await released.arelease()
        seen = []
        async for item in jobs:
            async with item:
                seen.append(item.value)
            if len(seen) == 3:
                break
        assert seen == ["b", "c", "d"]
        with pytest.raises(QueueEmptyError):
            await jobs.aget(timeout=0)
        waiting = asyncio.gather(*(jobs.aget(timeout=LONG) for _ in range(3)))
        await jobs.aput_many([1, 2, 3])
        items: list[Item] = await waiting
        assert sorted(item.value for item in items) == [1, 2, 3]
        await items[0].areject("bad")
        for item in items[1:]:
            await item.aack()
        with pytest.raises(ItemSettledError):
            await items[0].aack()
        await jobs.aclose()
        with pytest.raises(QueueClosedError):
            await jobs.aget()

    run_async(app, main())
    assert app.dlq.count("fifo:jobs") == 1


def test_a_cancelled_get_takes_nothing(app: TaskQ) -> None:
    async def main() -> None:
        jobs = app.queue("jobs")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(jobs.aget(), 0.2)
        await jobs.aput_many(range(50))
        taken = []
        while len(taken) < 50:
            receiving = asyncio.create_task(jobs.aget(timeout=LONG))
            await asyncio.sleep(0)
            receiving.cancel()
            async with await jobs.aget(timeout=LONG) as item:
                taken.append(item.value)
        assert sorted(taken) == list(range(50))

    run_async(app, main())


def test_an_event_loop_that_ends_while_one_waits_leaves_no_task(app: TaskQ, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> asyncio.Task[Item]:
        (await jobs.aget(timeout=LONG)).ack()
        waiting = asyncio.create_task(jobs.aget())
        await asyncio.sleep(0)
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.2)  # the loop waits for it before it closes
        return waiting

    jobs = app.queue("jobs")
    jobs.put(1)
    assert asyncio.run(main()).cancelled()
    jobs.close()
    gc.collect()
    assert "Task was destroyed" not in caplog.text


def test_a_pause_holds_items_back(app: TaskQ) -> None:
    jobs = app.queue("jobs")
    app.pause("fifo:jobs")
    jobs.put(1)
    with pytest.raises(QueueEmptyError):
        jobs.get(timeout=0)
    app.resume("fifo:jobs")
    assert take(jobs) == 1


def test_a_batch_block_puts_at_its_end(app: TaskQ) -> None:
    jobs = app.queue("jobs")
    with app.batch():
        jobs.put(1)
        assert jobs.size() == 0
    assert take(jobs) == 1


def test_a_fifo_and_a_queue_of_tasks_with_the_same_name_are_apart(app: TaskQ) -> None:
    @app.task(queue="jobs", ignore_result=True)
    def work() -> None: ...

    app.queue("jobs").put("item")
    work.delay()
    stats = {queue.queue: queue.lag for queue in app.queues()}
    assert (stats["jobs"], stats["fifo:jobs"]) == (1, 1)
    assert take(app.queue("jobs")) == "item"
    assert app.purge("jobs") == 1


@pytest.mark.parametrize("name", ["", "a b", "fifo:jobs", "a/b", "x" * 101, None, 7])
def test_a_name_that_cannot_be_used(app: TaskQ, name: Any) -> None:
    with pytest.raises(ConfigError, match="a FIFO's name"):
        app.queue(name)


def test_other_bad_input_is_an_error_at_the_call(app: TaskQ) -> None:
    with pytest.raises(ConfigError, match="prefetch"):
        app.queue("jobs", prefetch=-1)
    for values in ("text", b"bytes", {"a": 1}, 7):
        with pytest.raises(ConfigError, match="values must be a list"):
            app.queue("jobs").put_many(values)  # type: ignore[arg-type]
    for timeout in (-1, "soon", float("nan")):
        with pytest.raises(ConfigError, match="timeout"):
            app.queue("jobs").get(timeout=timeout)
    with pytest.raises(ConfigError, match="queue"):
        app.send_task("work", queue="fifo:jobs")
    app.queue("jobs").put(1)
    with app.queue("jobs").get(timeout=LONG) as item, pytest.raises(ConfigError, match="reason"):
        item.reject(RuntimeError("no"))  # type: ignore[arg-type]

    async def pointed_at_it() -> None:
        with pytest.raises(ConfigError, match=r"'fifo:jobs' is a FIFO: no worker reads it"):
            Worker(app, WorkerOptions(queues=["fifo:jobs"]))

    run_async(app, pointed_at_it())


def test_dead_items_and_dead_tasks_do_not_mix(app: TaskQ) -> None:
    app.queue("jobs").put(1)
    app.queue("jobs").get(timeout=LONG).reject()
    with pytest.raises(ConfigError, match="one is a FIFO"):
        app.dlq.replay(queue="fifo:jobs", to="default")
    with pytest.raises(ConfigError, match="one is a FIFO"):
        app.dlq.replay(queue="default", to="fifo:jobs")
    assert app.dlq.replay(to="default") == 0
    assert app.dlq.purge(queue="fifo:jobs") == 1


def workers(app: TaskQ) -> int:
    """How many consumers the FIFO ``jobs`` has."""
    return sum(queue.workers for queue in app.queues() if queue.queue == "fifo:jobs")
