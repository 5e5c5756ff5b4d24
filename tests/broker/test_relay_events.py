"""The relay script of events: those of an outbox into their topic, each once by its id."""

from __future__ import annotations

from typing import Any

import pytest

from taskq.broker.keys import Keys
from taskq.broker.scripts import MAX_PER_CALL, SENT_TTL_MS
from taskq.broker.scripts import topics as topic_scripts
from taskq.errors import BrokerRefusedError

TOPIC = Keys("bench").topic("orders")


def relay(bench: Any, *triples: tuple[str, str, bytes], limits: tuple[int, int, int] = (0, 0, 0)) -> Any:
    bench.tag = b"{orders/}"
    return bench.run(topic_scripts.relay_events(TOPIC, limits, [word for triple in triples for word in triple]))


def published(bench: Any) -> list[dict[bytes, bytes]]:
    return [fields for _, fields in bench.client.xrange(TOPIC.events)]


def test_each_is_published_once_and_counted_once(bench: Any) -> None:
    assert relay(bench, ("one", "", b"a"), ("two", "k", b"b")) == 2
    before = bench.snapshot()
    assert relay(bench, ("one", "", b"a"), ("two", "k", b"b")) == 0
    assert bench.snapshot() == before
    assert relay(bench, ("two", "k", b"b"), ("three", "k", b"c"), ("three", "k", b"c")) == 1
    assert published(bench) == [
        {b"m": b"a", b"n": b"1"},
        {b"m": b"b", b"n": b"2", b"k": b"k"},
        {b"m": b"c", b"n": b"3", b"k": b"k"},
    ]
    assert bench.client.hgetall(TOPIC.state) == {b"total": b"3"}
    assert 0 < bench.client.pttl(TOPIC.sent_prefix + b"one") <= SENT_TTL_MS


def test_ordinals_go_on_with_those_of_publishers(bench: Any) -> None:
    bench.tag = b"{orders/}"
    bench.run(topic_scripts.publish(TOPIC, (0, 0, 0), b"p", 1, ["", b"a"]))
    relay(bench, ("one", "", b"b"))
    bench.run(topic_scripts.publish(TOPIC, (0, 0, 0), b"p", 2, ["", b"c"]))
    assert [(fields[b"m"], fields[b"n"]) for fields in published(bench)] == [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]


def test_a_sleeping_dispatcher_is_woken_by_what_is_new(bench: Any, listen: Any) -> None:
    ear = listen(TOPIC.published)
    relay(bench, ("one", "", b"a"))
    bench.client.hset(TOPIC.state, "asleep", 1)
    relay(bench, ("one", "", b"a"))
    assert ear.heard() == []
    relay(bench, ("two", "", b"b"))
    relay(bench, ("three", "", b"c"))
    assert ear.heard() == [b"published"]


def test_no_more_than_the_topic_keeps(bench: Any) -> None:
    for page in range(10):
        relay(bench, *[(f"{page}-{n}", "", b"x") for n in range(100)], limits=(0, 300, 0))
    assert 300 <= bench.client.xlen(TOPIC.events) <= 500
    assert bench.client.hget(TOPIC.state, "total") == b"1000"


def test_without_memory_nothing_is_written(bench: Any) -> None:
    bench.fill_up()
    with pytest.raises(BrokerRefusedError, match="maxmemory"):
        relay(bench, ("one", "", b"a"))
    assert bench.snapshot() == {}
    bench.make_room()
    assert relay(bench, ("one", "", b"a")) == 1


def test_an_event_that_cannot_be_written_is_neither_marked_nor_counted(bench: Any) -> None:
    bench.client.set(TOPIC.events, "of a wrong type")
    with pytest.raises(BrokerRefusedError, match="WRONGTYPE"):
        relay(bench, ("one", "", b"a"))
    bench.client.delete(TOPIC.events)
    assert relay(bench, ("one", "", b"a")) == 1
    assert published(bench) == [{b"m": b"a", b"n": b"1"}]


def test_a_full_page_is_one_call(bench: Any) -> None:
    assert relay(bench, *[(str(n), "", b"%d" % n) for n in range(MAX_PER_CALL)]) == MAX_PER_CALL
    assert [int(fields[b"m"]) for fields in published(bench)] == list(range(MAX_PER_CALL))
