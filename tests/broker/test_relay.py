"""The relay script: messages of an outbox, each once by its task id."""

from __future__ import annotations

from typing import Any

import pytest

from taskq.broker import scripts
from taskq.errors import BrokerRefusedError


def relay(bench: Any, *quads: tuple[Any, ...]) -> Any:
    return bench.run(scripts.relay(bench.keys, [word for quad in quads for word in quad]))


def test_each_is_published_once(bench: Any) -> None:
    assert relay(bench, ("one", 5, "", b"a"), ("two", 5, "", b"b")) == 2
    before = bench.snapshot()
    assert relay(bench, ("one", 5, "", b"a"), ("two", 5, "", b"b")) == 0
    assert bench.snapshot() == before
    assert relay(bench, ("two", 5, "", b"b"), ("three", 5, "", b"c")) == 1
    assert bench.messages() == [b"a", b"b", b"c"]


def test_the_same_id_twice_in_one_call(bench: Any) -> None:
    assert relay(bench, ("one", 5, "", b"a"), ("one", 5, "", b"b")) == 1
    assert bench.messages() == [b"a"]


def test_an_id_that_a_producer_has_used(bench: Any) -> None:
    bench.run(scripts.enqueue(bench.keys, b"p", 1, 5, [b"a"], "one"))
    assert relay(bench, ("one", 5, "", b"b")) == 0
    relay(bench, ("two", 5, "", b"b"))
    assert bench.run(scripts.enqueue(bench.keys, b"p", 2, 5, [b"c"], "two")) is None
    assert bench.messages() == [b"a", b"b"]


def test_what_is_due_later_is_put_aside(bench: Any, ear: Any) -> None:
    due = bench.now_ms() + 60_000
    assert relay(bench, ("one", 5, due, b"a"), ("two", 5, due - 50_000, b"b"), ("three", 9, 1, b"c")) == 3
    assert bench.delayed() == {b"5a": due, b"5b": due - 50_000}
    assert bench.messages(9) == [b"c"]
    assert sorted(ear.heard()) == [b"delayed", b"levels"]
    ttl = bench.client.pttl(bench.keys.sent("one"))
    assert scripts.SENT_TTL_MS + 50_000 < ttl <= scripts.SENT_TTL_MS + 60_000, "counted from its time"
    assert 0 < bench.client.pttl(bench.keys.sent("three")) <= scripts.SENT_TTL_MS


def test_a_countdown_is_counted_on_redis_clock(bench: Any) -> None:
    before = bench.now_ms()
    assert relay(bench, ("one", 5, "+60000", b"a"), ("two", 5, "+0", b"b")) == 2
    assert before + 60_000 <= bench.delayed()[b"5a"] <= bench.now_ms() + 60_000
    assert bench.messages() == [b"b"]


def test_a_later_head_is_not_announced(bench: Any, ear: Any) -> None:
    due = bench.now_ms() + 60_000
    relay(bench, ("one", 5, due, b"a"))
    relay(bench, ("two", 5, due + 1000, b"b"))
    assert ear.heard() == [b"delayed"]


def test_without_memory_nothing_is_written(bench: Any) -> None:
    bench.fill_up()
    with pytest.raises(BrokerRefusedError, match="maxmemory"):
        relay(bench, ("one", 5, "", b"a"))
    assert bench.snapshot() == {}
    bench.make_room()
    assert relay(bench, ("one", 5, "", b"a")) == 1


def test_a_message_that_cannot_be_written_is_not_marked(bench: Any) -> None:
    bench.client.set(bench.keys.stream(5), "of a wrong type")
    with pytest.raises(BrokerRefusedError, match="WRONGTYPE"):
        relay(bench, ("one", 5, "", b"a"))
    bench.client.delete(bench.keys.stream(5))
    assert relay(bench, ("one", 5, "", b"a")) == 1
    assert bench.messages() == [b"a"]


def test_a_full_page_is_one_call(bench: Any) -> None:
    page = [(str(n), 5, "", b"%d" % n) for n in range(scripts.MAX_PER_CALL)]
    assert relay(bench, *page) == scripts.MAX_PER_CALL
    assert bench.messages() == [message for *_, message in page]
