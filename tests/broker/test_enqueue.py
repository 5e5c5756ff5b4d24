"""The enqueue script: messages into a stream, once per sequence number."""

from __future__ import annotations

from typing import Any

import pytest

from taskq.broker import scripts
from taskq.errors import BrokerRefusedError


def test_messages_are_appended_in_order(bench: Any) -> None:
    last = bench.run(scripts.enqueue(bench.keys, b"p", 1, 5, [b"a", b"b"]))
    assert bench.messages() == [b"a", b"b"]
    assert bench.client.xrevrange(bench.keys.stream(5), count=1)[0][0] == last
    assert bench.client.get(bench.keys.producer(b"p")) == b"1"
    assert not bench.client.exists(bench.keys.levels), "the default level needs no announcement"


def test_the_same_call_again_writes_nothing(bench: Any) -> None:
    call = scripts.enqueue(bench.keys, b"p", 1, 5, [b"a"])
    bench.run(call)
    before = bench.snapshot()
    assert bench.run(call) is None
    assert bench.snapshot() == before


def test_a_sequence_number_below_the_last_is_refused_too(bench: Any) -> None:
    bench.run(scripts.enqueue(bench.keys, b"p", 2, 5, [b"a"]))
    assert bench.run(scripts.enqueue(bench.keys, b"p", 1, 5, [b"b"])) is None
    assert bench.run(scripts.enqueue(bench.keys, b"p", 3, 5, [b"c"]))
    assert bench.run(scripts.enqueue(bench.keys, b"another", 1, 5, [b"d"]))
    assert bench.messages() == [b"a", b"c", b"d"]


def test_the_sequence_number_is_kept_for_a_while(bench: Any) -> None:
    bench.run(scripts.enqueue(bench.keys, b"p", 1, 5, [b"a"]))
    ttl = bench.client.pttl(bench.keys.producer(b"p"))
    assert scripts.PRODUCER_TTL_MS / 2 < ttl <= scripts.PRODUCER_TTL_MS


def test_an_id_given_by_the_user_is_accepted_once(bench: Any) -> None:
    assert bench.run(scripts.enqueue(bench.keys, b"p", 1, 5, [b"a"], "order-7"))
    before = bench.snapshot()
    assert bench.run(scripts.enqueue(bench.keys, b"other", 1, 5, [b"b"], "order-7")) is None
    assert bench.snapshot() == before
    assert 0 < bench.client.pttl(bench.keys.sent("order-7")) <= scripts.SENT_TTL_MS


def test_a_new_level_is_announced_once(bench: Any, ear: Any) -> None:
    bench.run(scripts.enqueue(bench.keys, b"p", 1, 9, [b"a"]))
    bench.run(scripts.enqueue(bench.keys, b"p", 2, 9, [b"b"]))
    bench.run(scripts.enqueue(bench.keys, b"p", 3, 5, [b"c"]))
    assert ear.heard() == [b"levels"]
    assert bench.client.smembers(bench.keys.levels) == {b"9"}
    assert (bench.messages(9), bench.messages(5)) == ([b"a", b"b"], [b"c"])


@pytest.mark.parametrize("unique_id", [None, "order-7"])
def test_without_memory_nothing_is_written(bench: Any, unique_id: str | None) -> None:
    call = scripts.enqueue(bench.keys, b"p", 1, 9, [b"a", b"b"], unique_id)
    bench.fill_up()
    with pytest.raises(BrokerRefusedError, match="maxmemory"):
        bench.run(call)
    assert bench.snapshot() == {}
    bench.make_room()
    assert bench.run(call), "the same call is accepted later"
    assert bench.messages(9) == [b"a", b"b"]


def test_a_full_page_is_one_call(bench: Any) -> None:
    page = [b"%d" % n for n in range(scripts.MAX_PER_CALL)]
    bench.run(scripts.enqueue(bench.keys, b"p", 1, 5, page))
    assert bench.messages() == page
