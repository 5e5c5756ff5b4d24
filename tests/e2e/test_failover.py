"""A failover behind one address: who was connected to the old master reaches the new one by itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import connect
from support.proxy import FaultProxy
from support.wait import eventually
from support.worker import running_worker

from taskq import BrokerUnavailableError, TaskQ
from taskq.broker.link import sync
from taskq.embedded import EmbeddedRedis


class Pair:
    """A master and its replica, behind one address."""

    def __init__(self, old: EmbeddedRedis, new: EmbeddedRedis, proxy: FaultProxy) -> None:
        self.url = proxy.url
        self._old, self._new = old, new
        self._proxy = proxy
        self.old, self.new = connect(old.url), connect(new.url)
        self.new.replicaof("127.0.0.1", old.port)
        eventually(lambda: self.new.info("replication")["master_link_status"] == "up", timeout=20)

    def fail_over(self) -> None:
        """The replica becomes the master; the old one keeps its connections, and goes on as a replica."""
        self.new.replicaof("NO", "ONE")
        self._proxy.redirect(self._new.url)
        self.old.replicaof("127.0.0.1", self._new.port)
        eventually(lambda: self.old.info("replication")["role"] == "slave")

    def left_behind(self) -> set[str]:
        """The names of our connections to the old server."""
        return {row["name"] for row in self.old.client_list() if row["name"].startswith("taskq")}

    def close(self) -> None:
        self.old.close()
        self.new.close()


@pytest.fixture
def pair(private_redis: Callable[..., EmbeddedRedis]) -> Iterator[Pair]:
    old, new = private_redis(appendonly=False), private_redis(appendonly=False)
    with FaultProxy(old.url) as proxy:
        pair = Pair(old, new, proxy)
        yield pair
        pair.close()


@pytest.fixture
def app(pair: Pair) -> Iterator[TaskQ]:
    app = TaskQ("shop", broker_url=pair.url, lease_timeout=1)
    yield app
    app.close()


def test_a_worker_and_who_sends_and_waits_follow(pair: Pair, app: TaskQ) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    heard = threading.Event()
    app.on_broadcast("cache")(lambda _: heard.set())

    async def roundtrip() -> int:
        return await (await add.adelay(2, 2)).aget(20)

    with running_worker(app, concurrency=2), asyncio.Runner() as runner:
        assert add.delay(1, 2).get(20) == 3
        assert runner.run(roundtrip()) == 4
        pair.fail_over()
        assert add.delay(3, 4).get(20) == 7
        assert runner.run(roundtrip()) == 4
        eventually(lambda: not pair.left_behind(), timeout=20, message=lambda: str(pair.left_behind()))
        eventually(lambda: pair.new.pubsub_numsub("taskq:broadcast:cache")[0][1] == 1, timeout=20)
        app.broadcast("cache", None)
        assert heard.wait(20)
        runner.run(app.aclose())


def test_who_only_reads_follows(pair: Pair, app: TaskQ, monkeypatch: pytest.MonkeyPatch) -> None:
    app.sync_broker.execute("SET", "where", "old")
    monkeypatch.setattr(sync, "ROLE_EVERY", 0.0)
    app.sync_broker.execute("GET", "where")
    pair.fail_over()
    pair.old.replicaof("NO", "ONE")  # cut off: it knows of no failover any more, and answers as before
    pair.old.replicaof("127.0.0.1", 1)
    pair.new.set("where", "new")
    eventually(lambda: app.sync_broker.execute("GET", "where") == b"new")


def test_one_who_has_seen_it_takes_along_who_only_listens(pair: Pair, app: TaskQ) -> None:
    with app.listeners.borrow() as listener:
        listener.subscribe()
        app.sync_broker.execute("SET", "anything", 1)
        assert pair.left_behind() == {"taskq-client"}
        pair.fail_over()
        app.sync_broker.execute("SET", "anything", 2)
        eventually(lambda: not pair.left_behind())


def test_a_server_that_has_no_connection_left_is_tried_again(private_redis: Any) -> None:
    server = private_redis(appendonly=False)
    with connect(server.url) as client:
        app = TaskQ("shop", broker_url=server.url, broker_deadline=0.3)

        @app.task
        def add(x: int, y: int) -> int:
            return x + y

        client.config_set("maxclients", 1)
        with pytest.raises(BrokerUnavailableError, match="max number of clients"):
            add.delay(1, 2)
        with pytest.raises(BrokerUnavailableError):
            asyncio.run(add.adelay(1, 2))
        app.close()

        patient = TaskQ("shop", broker_url=server.url, broker_deadline=20)
        timer = threading.Timer(0.3, client.config_set, ("maxclients", 100))
        timer.start()
        patient.task(name="shop.add")(lambda x, y: None).delay(1, 2)
        timer.join()
        patient.close()
