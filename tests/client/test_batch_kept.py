"""What ``app.batch()`` could not send is kept, and goes out once when it is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.proxy import FaultProxy
from support.wait import eventually

from taskq import BrokerUnavailableError, TaskQ
from taskq.errors import BrokerError, BrokerRefusedError, SpoolFullError
from taskq.values.message import decode


def sent(client: Any, namespace: str) -> list[Any]:
    """The first argument of every message in the default queue, in order."""
    return [decode(fields[b"m"]).args[0] for _, fields in client.xrange(f"{namespace}:{{default}}:stream:5")]


@pytest.fixture
def clean(redis_client: Any, namespace: str) -> Iterator[None]:
    yield
    redis_client.delete(f"{namespace}:{{default}}:stream:5")


@pytest.fixture
def proxy(redis_url: str) -> Iterator[FaultProxy]:
    with FaultProxy(redis_url) as proxy:
        yield proxy


class Sync:
    """A block in ordinary code."""

    def block(self, app: TaskQ, fill: Callable[[], object]) -> None:
        with app.batch():
            fill()

    def retry(self, error: BrokerError) -> None:
        assert error.unsent is not None
        error.unsent.send()


class Async:
    """A block on an event loop."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner

    def block(self, app: TaskQ, fill: Callable[[], object]) -> None:
        async def main() -> None:
            async with app.batch():
                fill()

        self._runner.run(main())

    def retry(self, error: BrokerError) -> None:
        async def main() -> None:
            assert error.unsent is not None
            await error.unsent.asend()

        self._runner.run(main())


Way = Sync | Async


@pytest.fixture(params=["sync", "async"])
def way(request: Any) -> Iterator[Way]:
    with asyncio.Runner() as runner:
        yield Sync() if request.param == "sync" else Async(runner)


@pytest.mark.usefixtures("clean")
def test_the_error_says_how_many_were_not_accepted_and_gives_them_back(
    way: Way, make_app: Any, proxy: FaultProxy, redis_client: Any, namespace: str
) -> None:
    app = make_app(broker_url=proxy.url, broker_deadline=0.2)
    job = app.task(name="job")(lambda n: None)
    proxy.refuse()
    with pytest.raises(BrokerUnavailableError, match=r"1500 of the 1500 messages of app.batch\(\)") as caught:
        way.block(app, lambda: [job.delay(n) for n in range(1500)])
    unsent = caught.value.unsent
    assert unsent is not None
    assert len(unsent) == 1500
    with pytest.raises(BrokerUnavailableError, match="1500 of the 1500"):
        way.retry(caught.value)
    proxy.accept()
    way.retry(caught.value)
    assert len(unsent) == 0
    way.retry(caught.value)
    assert sent(redis_client, namespace) == list(range(1500))


@pytest.mark.usefixtures("clean")
def test_a_page_that_was_executed_without_an_answer_is_not_written_twice(
    way: Way, make_app: Any, proxy: FaultProxy, redis_client: Any, namespace: str
) -> None:
    app = make_app(broker_url=proxy.url, broker_deadline=0.2)
    job = app.task(name="job")(lambda n: None)
    way.block(app, lambda: job.delay(0))
    proxy.drop_replies(1000)
    with pytest.raises(BrokerUnavailableError) as caught:
        way.block(app, lambda: job.delay(1))
    assert sent(redis_client, namespace) == [0, 1], "Redis has it, though nobody was told"
    proxy.drop_replies(0)
    way.block(app, lambda: job.delay(2))
    way.retry(caught.value)
    assert sent(redis_client, namespace) == [0, 1, 2]


@pytest.mark.usefixtures("clean")
def test_what_redis_refused_for_lack_of_memory_is_kept_too(way: Way, private_redis: Any, make_app: Any) -> None:
    server = private_redis()
    app = make_app(broker_url=server.url)
    job = app.task(name="job")(lambda n: None)
    app.sync_broker.execute("CONFIG", "SET", "maxmemory", "1")

    with pytest.raises(BrokerRefusedError, match="2 of the 2 messages") as caught:
        way.block(app, lambda: [job.delay(n) for n in (1, 2)])
    app.sync_broker.execute("CONFIG", "SET", "maxmemory", "0")
    way.retry(caught.value)
    assert app.sync_broker.execute("XLEN", f"{app.config.namespace}:{{default}}:stream:5") == 2


@pytest.mark.usefixtures("clean")
def test_with_a_spool_it_goes_there_and_only_what_has_no_room_is_kept(
    way: Way, make_app: Any, proxy: FaultProxy, redis_client: Any, namespace: str, tmp_path: Path
) -> None:
    app = make_app(broker_url=proxy.url, broker_deadline=0.2, spool_path=str(tmp_path / "spool.db"), spool_limit=1200)
    job = app.task(name="job", when_unavailable="spool")(lambda n: None)
    proxy.refuse()
    way.block(app, lambda: job.delay(0))
    with pytest.raises(SpoolFullError, match="500 of the 1500 messages") as caught:
        way.block(app, lambda: [job.delay(n) for n in range(1, 1501)])
    assert len(app.sender.spool) == 1001
    proxy.accept()
    eventually(lambda: len(app.sender.spool) == 0)
    way.retry(caught.value)
    eventually(lambda: sent(redis_client, namespace) == list(range(1501)))


def test_a_block_that_raises_sends_nothing_and_keeps_nothing(app: TaskQ, redis_client: Any, namespace: str) -> None:
    job = app.task(name="job")(lambda n: None)
    batch = app.batch()

    def fill() -> None:
        with batch:
            job.delay(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fill()
    assert len(batch) == 0
    batch.send()
    assert sent(redis_client, namespace) == []
