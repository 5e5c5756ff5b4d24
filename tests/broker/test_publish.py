"""The publish script: events into a topic, each once; what is beyond the topic's limits goes."""

from __future__ import annotations

from typing import Any

import pytest

from taskq.broker.keys import Keys
from taskq.broker.scripts import MAX_PER_CALL, PRODUCER_TTL_MS
from taskq.broker.scripts import topics as topic_scripts
from taskq.errors import BrokerRefusedError

TOPIC = Keys("bench").topic("orders")


def publish(bench: Any, *events: Any, sequence: int = 1, limits: tuple[int, int, int] = (0, 0, 0)) -> Any:
    bench.tag = b"{orders/}"
    return bench.run(topic_scripts.publish(TOPIC, limits, b"p", sequence, events))


def test_events_carry_payload_ordinal_and_key(bench: Any) -> None:
    last = publish(bench, "", b"one", "k", b"two")
    entries = bench.client.xrange(TOPIC.events)
    assert [fields for _, fields in entries] == [{b"m": b"one", b"n": b"1"}, {b"m": b"two", b"n": b"2", b"k": b"k"}]
    assert last == entries[-1][0]
    assert bench.client.hgetall(TOPIC.state) == {b"total": b"2"}
    assert 0 < bench.client.pttl(TOPIC.producer(b"p")) <= PRODUCER_TTL_MS


def test_a_call_that_comes_again_writes_nothing(bench: Any) -> None:
    publish(bench, "", b"one")
    before = bench.snapshot()
    assert publish(bench, "", b"one") is None
    assert bench.snapshot() == before
    assert publish(bench, "", b"two", sequence=2)
    assert bench.client.hget(TOPIC.state, "total") == b"2"


def test_a_sleeping_dispatcher_is_woken_once(bench: Any, listen: Any) -> None:
    ear = listen(TOPIC.published)
    publish(bench, "", b"one")
    bench.client.hset(TOPIC.state, "asleep", 1)
    publish(bench, "", b"two", sequence=2)
    publish(bench, "", b"three", sequence=3)
    assert ear.heard() == [b"published"]


def test_no_more_than_so_many_events(bench: Any) -> None:
    for sequence in range(1, 21):
        publish(bench, *["", b"x"] * 100, sequence=sequence, limits=(0, 300, 0))
    assert 300 <= bench.client.xlen(TOPIC.events) <= 500
    assert bench.client.hget(TOPIC.state, "total") == b"2000"


def test_no_more_than_so_many_bytes(bench: Any) -> None:
    for sequence in range(1, 101):
        publish(bench, "", b"x" * 10_000, sequence=sequence, limits=(0, 0, 200_000))
    assert 100_000 < bench.client.memory_usage(TOPIC.events) < 250_000


def test_nothing_older_than(bench: Any) -> None:
    old = bench.now_ms() - 60_000
    for n in range(250):
        bench.client.xadd(TOPIC.events, {"m": b"x", "n": n + 1}, id=f"{old}-{n}")
    publish(bench, "", b"x" * 5000, limits=(59_000, 0, 0))
    assert bench.client.xlen(TOPIC.events) <= 100
    publish(bench, "", b"x" * 5000, sequence=2, limits=(3_600_000_000_000, 0, 0))


def test_without_memory_nothing_is_published(bench: Any) -> None:
    bench.fill_up()
    with pytest.raises(BrokerRefusedError, match="maxmemory"):
        publish(bench, "", b"one")
    assert bench.snapshot() == {}
    bench.make_room()
    assert publish(bench, "", b"one")


def test_a_full_page_is_one_call(bench: Any) -> None:
    publish(bench, *[word for n in range(MAX_PER_CALL) for word in ("", b"%d" % n)])
    assert [int(fields[b"m"]) for _, fields in bench.client.xrange(TOPIC.events)] == list(range(MAX_PER_CALL))
