"""FIFOs between real programs, of which some die, sleep too long, or lose their connection."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.process import Proc
from support.proxy import FaultProxy
from support.wait import eventually, wait_for_line
from support.worker import run_async

from taskq import LeaseLostError, QueueEmptyError, TaskQ
from taskq.broker import scripts
from taskq.broker.keys import Keys

LONG = 60
"""Seconds that no wait here needs."""
LEASE = 1.0

HOLDER = """
import os, sys, time
from taskq import TaskQ

jobs = TaskQ("holder").queue("jobs", prefetch=int(os.environ.get("PREFETCH", "0")))
item = jobs.get(timeout=60)
print("holds", item.value, item.deliveries, flush=True)
sys.stdin = open(os.environ["GO"])  # a named pipe: waits until the test opens it
try:
    item.ack()
except Exception as error:
    print("ack:", type(error).__name__, flush=True)
else:
    print("ack: done", flush=True)
"""


@pytest.fixture
def holder(
    spawn: Callable[..., Proc], tmp_path: Any, redis_url: str, namespace: str, mkfifo: Callable[[], str]
) -> Callable[..., tuple[Proc, str]]:
    """Start a program that gets an item, says so, and acknowledges it when the named pipe is opened."""

    def start(**env: str) -> tuple[Proc, str]:
        pipe = mkfifo()
        settings = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace, "TASKQ_LEASE_TIMEOUT": str(LEASE)}
        return spawn("-c", HOLDER, env={**settings, "GO": pipe, **env}), pipe

    return start


@pytest.fixture
def mkfifo(tmp_path: Any) -> Callable[[], str]:
    """Make a named pipe; its path."""
    made: list[str] = []

    def make() -> str:
        made.append(str(tmp_path / f"go-{len(made)}"))
        os.mkfifo(made[-1])
        return made[-1]

    return make


@pytest.fixture
def proxied(make_app: Callable[..., TaskQ], redis_url: str) -> Iterator[tuple[TaskQ, FaultProxy]]:
    """An app that reaches Redis through a proxy."""
    with FaultProxy(redis_url) as proxy:
        app = make_app(broker_url=proxy.url, lease_timeout=LONG)
        yield app, proxy
        app.close()


def test_the_item_of_a_killed_consumer_goes_to_another(
    make_app: Callable[..., TaskQ], holder: Callable[..., tuple[Proc, str]]
) -> None:
    jobs = make_app(lease_timeout=LEASE).queue("jobs")
    jobs.put_many(["held", "prefetched", "free"])
    process, _ = holder(PREFETCH="1")
    wait_for_line(process, "holds held 1", LONG)
    process.kill()
    received = {}
    for _ in range(3):
        with jobs.get(timeout=LONG) as item:
            received[item.value] = item.deliveries
    assert received == {"free": 1, "held": 2, "prefetched": 2}


def test_a_consumer_that_slept_too_long_cannot_acknowledge(
    make_app: Callable[..., TaskQ], holder: Callable[..., tuple[Proc, str]]
) -> None:
    jobs = make_app(lease_timeout=LEASE).queue("jobs")
    jobs.put("one")
    process, pipe = holder()
    wait_for_line(process, "holds one 1", LONG)
    process.signal(signal.SIGSTOP)
    item = jobs.get(timeout=LONG)
    assert (item.value, item.deliveries) == ("one", 2)
    process.signal(signal.SIGCONT)
    with open(pipe, "w"):
        wait_for_line(process, "ack: LeaseLostError", LONG)
    item.ack()
    with pytest.raises(QueueEmptyError):
        jobs.get(timeout=0)


def test_a_program_that_ends_gives_back_what_it_held_at_once(
    make_app: Callable[..., TaskQ], spawn: Callable[..., Proc], redis_url: str, namespace: str
) -> None:
    jobs = make_app(lease_timeout=LONG * 10).queue("jobs")
    jobs.put("one")
    code = "from taskq import TaskQ; item = TaskQ('short').queue('jobs').get(timeout=60); print('holds', item.value)"
    env = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace, "TASKQ_LEASE_TIMEOUT": str(LONG * 10)}
    process = spawn("-c", code, env=env)
    assert process.wait(LONG) == 0, process.output()
    with jobs.get(timeout=LONG) as item:
        assert (item.value, item.deliveries) == ("one", 1)


def test_an_item_that_kills_its_consumers_becomes_a_dead_letter(make_app: Callable[..., TaskQ]) -> None:
    app = make_app()
    keys = app.keys.queue("fifo:jobs")
    app.queue("jobs").put_many(["deadly", "harmless"])
    seen = []
    for _ in range(3):
        consumer = make_app().queue("jobs", prefetch=5)
        item = consumer.get(timeout=LONG)
        seen.append((item.value, item.deliveries))
        (name,) = app.sync_broker.execute("ZRANGE", keys.consumers, 0, -1)
        streams = scripts.streams_of(keys, [5])
        app.sync_broker.run(scripts.recover(keys, streams, name, 1))  # as when its lease has run out
    assert seen == [("deadly", 1), ("deadly", 2), ("deadly", 3)]
    with app.queue("jobs").get(timeout=LONG) as item:
        assert item.value == "harmless"
    (letter,) = app.dlq.list("fifo:jobs")
    assert letter.message is not None
    assert (letter.message.args, letter.evidence.reason, letter.evidence.crashes) == (["deadly"], "crashed", 3)


def test_bad_bytes_become_a_dead_letter_and_the_consumer_goes_on(app: TaskQ, redis_client: Any, namespace: str) -> None:
    keys = Keys(namespace).queue("fifo:jobs")
    jobs = app.queue("jobs")
    jobs.put("before")
    redis_client.xadd(keys.stream(5), {"m": b"\xc1 no message"})
    redis_client.xadd(keys.stream(5), {"other": "field"})
    app.send_task("a.task", (1,), queue="default")
    ((_, fields),) = redis_client.xrange(Keys(namespace).queue("default").stream(5))
    redis_client.xadd(keys.stream(5), fields)  # a call of a task is no item
    jobs.put("after")
    for expected in ("before", "after"):
        with jobs.get(timeout=LONG) as item:
            assert item.value == expected
    letters = app.dlq.list("fifo:jobs")
    assert [letter.evidence.reason for letter in letters] == ["malformed"] * 3
    assert [letter.data for letter in letters] == [b"\xc1 no message", b"other\0field", fields[b"m"]]
    assert app.purge("default") == 1


def test_a_lost_reply_neither_doubles_nor_loses_an_item(proxied: tuple[TaskQ, FaultProxy]) -> None:
    app, proxy = proxied
    jobs = app.queue("jobs")
    jobs.put("warm")
    jobs.get(timeout=LONG).ack()
    for number in range(15):
        proxy.drop_replies()
        jobs.put(number)
    received = []
    for number in range(15):
        proxy.drop_replies()
        item = jobs.get(timeout=LONG)
        received.append(item.value)
        if number % 2:
            proxy.drop_replies()
        item.ack()
    assert received == list(range(15)), "and their order is kept"
    with pytest.raises(QueueEmptyError):
        jobs.get(timeout=0)


def test_lost_replies_on_an_event_loop(proxied: tuple[TaskQ, FaultProxy]) -> None:
    app, proxy = proxied

    async def main() -> list[int]:
        jobs = app.queue("jobs")
        await jobs.aput_many(range(10))
        received = []
        for _ in range(10):
            proxy.drop_replies()
            async with await jobs.aget(timeout=LONG) as item:
                received.append(item.value)
                proxy.cut()
        with pytest.raises(QueueEmptyError):
            await jobs.aget(timeout=0)
        return received

    assert run_async(app, main()) == list(range(10))


def test_a_waiting_consumer_outlives_a_broken_connection(
    proxied: tuple[TaskQ, FaultProxy], make_app: Callable[..., TaskQ]
) -> None:
    app, proxy = proxied
    received: list[Any] = []
    thread = threading.Thread(target=lambda: received.extend(take(app.queue("jobs")) for _ in range(2)))
    thread.start()
    other = make_app().queue("jobs")
    other.put(1)
    eventually(lambda: received == [1], LONG)
    proxy.cut()
    other.put(2)
    thread.join(LONG)
    assert received == [1, 2]


def test_the_keys_of_a_lost_namespace_come_back(app: TaskQ, redis_client: Any, namespace: str) -> None:
    jobs = app.queue("jobs")
    jobs.put(1)
    held = jobs.get(timeout=LONG)
    for key in redis_client.scan_iter(match=f"{namespace}:*"):
        redis_client.delete(key)
    jobs.put(2)
    with jobs.get(timeout=LONG) as item:
        assert item.value == 2
    with pytest.raises(LeaseLostError):
        held.ack()


def take(fifo: Any) -> Any:
    with fifo.get(timeout=LONG) as item:
        return item.value
