"""The leases of a process with many queues: renewed together, and none at the cost of another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from support.proxy import FaultProxy
from support.wait import eventually

from taskq import TaskQ
from taskq.broker import scripts
from taskq.broker.calls import Call
from taskq.broker.keeper import LeaseKeeper
from taskq.broker.link import address
from taskq.errors import BrokerError
from taskq.values.config import Config
from taskq.worker.admission.releaser import Releaser
from taskq.worker.exchange.membership import Standing
from taskq.worker.partition.connection import WorkerConnection
from taskq.worker.partition.partition import QueueLink
from taskq.worker.partition.wakeup import Doorbell

MakeApp = Callable[..., TaskQ]
QUEUES = 40


@contextmanager
def kept(app: TaskQ, url: str, links: list[QueueLink]) -> Iterator[tuple[list[float], list[bytes]]]:
    """A keeper of *links*, whose leases stand; how long each of its renewals took, and which leases it lost."""
    for link in links:
        app.sync_broker.run(scripts.register(link.keys, link.consumer, 60_000, link.streams))
    renewed: list[float] = []
    lost: list[bytes] = []
    keeper = LeaseKeeper(
        address.parse(url),
        Config(broker_url=url, lease_timeout=0.6),
        links,
        lambda: True,
        lost.append,
        lambda queue, count: None,
        lambda connection, now: 60.0,
        renewed.append,
    )
    keeper.start()
    try:
        yield renewed, lost
    finally:
        keeper.stop()
        for link in links:
            app.sync_broker.run(scripts.recover(link.keys, link.streams, link.consumer, 0))


def test_all_leases_are_renewed_in_one_round_trip(app: TaskQ, redis_url: str, redis_client: Any) -> None:
    links = [QueueLink(app.keys.queue(f"q{n}"), b"somebody") for n in range(QUEUES)]
    with FaultProxy(redis_url) as proxy, kept(app, proxy.url, links) as (renewed, lost):
        before = redis_client.zscore(links[-1].keys.consumers, b"somebody")
        eventually(lambda: redis_client.zscore(links[-1].keys.consumers, b"somebody") != before)
        eventually(lambda: renewed)  # told once Redis has answered
        assert proxy.requests < QUEUES, "a round trip for each queue"
    assert not lost


def test_a_queue_whose_keys_are_broken_does_not_cost_the_others_their_leases(
    app: TaskQ, redis_url: str, redis_client: Any
) -> None:
    links = [QueueLink(app.keys.queue(f"q{n}"), b"somebody") for n in range(3)]
    broken, *sound = links
    with kept(app, redis_url, links) as (_, lost):
        redis_client.set(broken.keys.consumers, "no sorted set")
        for link in sound:
            before = redis_client.zscore(link.keys.consumers, b"somebody")
            eventually(lambda: redis_client.zscore(link.keys.consumers, b"somebody") != before)  # noqa: B023
        redis_client.delete(broken.keys.consumers)
        eventually(lambda: lost)  # and the broken one is looked at all the time
    assert set(lost) == {b"somebody"}


class Counting(WorkerConnection):
    """Counts how often it waits for an answer."""

    waits = 0

    async def run_call(self, call: Call) -> Any:
        self.waits += 1
        return await super().run_call(call)

    async def run_calls(self, calls: Sequence[Call]) -> list[Any]:
        self.waits += 1
        return await super().run_calls(calls)

    async def pipeline(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        self.waits += 1
        return await super().pipeline(commands)

    async def execute(self, *command: Any) -> Any:
        self.waits += 1
        return await super().execute(*command)


def test_a_worker_takes_out_and_gives_up_all_its_leases_in_few_round_trips(app: TaskQ) -> None:
    links = [QueueLink(app.keys.queue(f"q{n}"), b"somebody") for n in range(QUEUES)]

    async def come_and_go() -> int:
        connection, bell = Counting(app.address, app.config), Doorbell()
        intake: Any = None  # nothing waits to be started here
        standing = Standing(connection, app.config, links, bell, bell.ring, connection.execute, links.remove)
        await standing.register()
        await Releaser(connection, links, intake, bell).hand_back(None)
        connection.close()
        return connection.waits

    assert asyncio.run(come_and_go()) < 10
    assert not any(app.sync_broker.execute("EXISTS", link.keys.consumers) for link in links)


def test_calls_of_one_round_trip_wait_for_no_answer_in_between(
    make_app: MakeApp, redis_url: str, redis_client: Any
) -> None:
    with FaultProxy(redis_url) as proxy:
        app = make_app(broker_url=proxy.url)
        links = [QueueLink(app.keys.queue(f"q{n}"), b"somebody") for n in range(QUEUES)]
        calls = [scripts.register(link.keys, link.consumer, 60_000, link.streams) for link in links]

        async def without_answers() -> None:
            connection = WorkerConnection(app.address, app.config)
            await connection.run_calls(calls[:1])  # the server knows the script by now
            proxy.silence()
            running = asyncio.ensure_future(connection.run_calls(calls))
            there = [link.keys.consumers for link in links]
            await asyncio.to_thread(eventually, lambda: redis_client.exists(*there) == QUEUES)
            assert not running.done()
            connection.close()
            with contextlib.suppress(BrokerError):
                await running

        asyncio.run(without_answers())
    for link in links:
        redis_client.delete(link.keys.consumers)
