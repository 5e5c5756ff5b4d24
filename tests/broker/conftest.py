"""One script at a time, on every server version: the raw data before and after a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from support.keys import delete_keys
from support.programs import ServerBinary

from taskq.broker import scripts
from taskq.broker.calls import Call
from taskq.broker.keys import Keys, QueueKeys
from taskq.broker.link.address import parse
from taskq.broker.link.sync import SyncBroker
from taskq.broker.scripts.settling import Settle, settle
from taskq.embedded import EmbeddedRedis

CONSUMER = b"host:1:aaaa"
DEFAULT = 2
"""The number of the stream of the default level, where there is no other than that and the front."""


class Bench:
    """A queue of a real server, with what a test of one script needs."""

    def __init__(self, client: Any, url: str) -> None:
        self.client = client
        self.keys: QueueKeys = Keys("bench").queue("q")
        self.tag = b"{q}"
        """The hash tag that every key of a call must have."""
        self.broker = SyncBroker(parse(url), 5, 5)
        self.streams = scripts.streams_of(self.keys, [])
        """The front (1) and the default level (2)."""

    def run(self, call: Call) -> Any:
        """Run a script; every key of it must be of this queue's slot."""
        assert all(self.tag in key for key in call.keys), "a key outside the queue's hash slot"
        return self.broker.run(call)

    def register(self, consumer: bytes = CONSUMER, lease_ms: int = 60_000) -> int:
        return int(self.run(scripts.register(self.keys, consumer, lease_ms, self.streams))[0])

    def watched(self) -> None:
        """Have it that somebody renews a lease all the time: only then may leases of others run out."""
        self.client.set(self.keys.renewed, f"{self.now_ms()} 60000 0", px=60_000)

    def fetch(self, *messages: bytes, consumer: bytes = CONSUMER) -> list[bytes]:
        """Put *messages* into the default level and deliver them; their entry ids."""
        self.register(consumer)
        for message in messages:
            self.client.xadd(self.streams[1], {"m": message})
        status, rows, *_ = self.settle(want=len(messages), consumer=consumer)
        assert status == 1
        return [entry for _, entries in rows for entry, _ in entries]

    def settle(
        self,
        *settled: Settle,
        want: int = 0,
        consumer: bytes = CONSUMER,
        completed: Sequence[bytes] = (),
    ) -> Any:
        """*completed* are entries of the default level that are done and have no outcome."""
        pages = [(DEFAULT, completed)] if completed else []
        return self.run(settle(self.keys, self.streams, consumer, want, settled, pages))

    def pending(self, consumer: bytes | None = None) -> list[bytes]:
        """Entry ids that are delivered and not settled, of all streams."""
        return [
            row["message_id"]
            for stream in self.streams
            for row in self.client.xpending_range(stream, "taskq", "-", "+", 1000, consumer)
        ]

    def messages(self, level: int | str = 5) -> list[bytes]:
        return [fields[b"m"] for _, fields in self.client.xrange(self.keys.stream(level))]

    def delayed(self) -> dict[bytes, float]:
        return dict(self.client.zrange(self.keys.delayed, 0, -1, withscores=True))

    def snapshot(self) -> dict[bytes, Any]:
        """Every key with its content (for a stream also what is pending), without TTLs."""
        found: dict[bytes, Any] = {}
        for key in self.client.scan_iter(count=1000):
            match self.client.type(key):
                case b"stream":
                    groups = self.client.xinfo_groups(key)
                    found[key] = (self.client.xrange(key), [group["pending"] for group in groups])
                case b"zset":
                    found[key] = self.client.zrange(key, 0, -1, withscores=True)
                case b"hash":
                    found[key] = self.client.hgetall(key)
                case b"list":
                    found[key] = self.client.lrange(key, 0, -1)
                case b"set":
                    found[key] = self.client.smembers(key)
                case _:
                    found[key] = self.client.get(key)
        return found

    def now_ms(self) -> int:
        seconds, micros = self.client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def fill_up(self) -> None:
        """Have the server refuse whatever needs memory."""
        self.client.config_set("maxmemory", "1")

    def make_room(self) -> None:
        self.client.config_set("maxmemory", "0")


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[ServerBinary], EmbeddedRedis]]:
    """One server per version for all tests of a module; each test leaves it empty."""
    started: dict[ServerBinary, EmbeddedRedis] = {}

    def start(binary: ServerBinary) -> EmbeddedRedis:
        if binary not in started:
            started[binary] = EmbeddedRedis(binary=binary.path, appendonly=False).start()
        return started[binary]

    yield start
    for server in started.values():
        server.stop()


@pytest.fixture
def bench(servers: Callable[[ServerBinary], EmbeddedRedis], server_binary: ServerBinary) -> Iterator[Bench]:
    """A queue on each server version of this machine."""
    import redis

    server = servers(server_binary)
    with redis.Redis.from_url(server.url, protocol=2, socket_timeout=30) as client:
        made = Bench(client, server.url)
        try:
            yield made
        finally:
            made.make_room()
            made.broker.close()
            delete_keys(client, "bench")


class Ear:
    """What is published on a channel."""

    def __init__(self, pubsub: Any, channel: bytes) -> None:
        self._pubsub = pubsub
        pubsub.subscribe(channel)
        assert pubsub.get_message(timeout=30)["type"] == "subscribe"

    def heard(self) -> list[bytes]:
        """All so far; a PING marks the end, so that nothing is missed and nothing waited for."""
        self._pubsub.ping()
        found = []
        while (message := self._pubsub.get_message(timeout=30)) and message["type"] != "pong":
            found.append(message["data"])
        return found


@pytest.fixture
def ear(bench: Bench) -> Iterator[Ear]:
    """Listens on the queue's wake channel."""
    with bench.client.pubsub() as pubsub:
        yield Ear(pubsub, bench.keys.wake)


@pytest.fixture
def listen(bench: Bench) -> Iterator[Callable[[bytes], Ear]]:
    """Listens on any channel."""
    opened = []

    def start(channel: bytes) -> Ear:
        opened.append(bench.client.pubsub())
        return Ear(opened[-1], channel)

    yield start
    for pubsub in opened:
        pubsub.close()
