"""The delay script: messages aside until their time, once per sequence number."""

from __future__ import annotations

from typing import Any

import pytest

from taskq.broker import scripts
from taskq.errors import BrokerRefusedError


def test_relative_and_absolute_times(bench: Any) -> None:
    before = bench.now_ms()
    due = bench.run(
        scripts.delay(bench.keys, b"p", 1, ["+5000", scripts.member(5, b"a"), "1893456000123", scripts.member(9, b"b")])
    )
    after = bench.now_ms()
    found = bench.delayed()
    assert before + 5000 <= found.pop(b"5a") <= after + 5000
    assert found == {b"9b": 1893456000123}
    assert due == b"1893456000123"


def test_the_same_call_again_writes_nothing(bench: Any) -> None:
    call = scripts.delay(bench.keys, b"p", 1, ["+5000", b"5a"])
    bench.run(call)
    before = bench.snapshot()
    assert bench.run(call) is None
    assert bench.snapshot() == before


def test_enqueue_and_delay_share_the_sequence(bench: Any) -> None:
    bench.run(scripts.enqueue(bench.keys, b"p", 1, 5, [b"a"]))
    assert bench.run(scripts.delay(bench.keys, b"p", 1, ["+5000", b"5b"])) is None
    assert bench.delayed() == {}


def test_the_sequence_number_is_kept_for_a_while(bench: Any) -> None:
    bench.run(scripts.delay(bench.keys, b"p", 1, ["+5000", b"5a"]))
    assert 0 < bench.client.pttl(bench.keys.producer(b"p")) <= scripts.PRODUCER_TTL_MS


def test_an_id_given_by_the_user_is_accepted_once_and_counts_from_its_time(bench: Any) -> None:
    hour = 3_600_000
    bench.run(scripts.delay(bench.keys, b"p", 1, [f"+{hour}", b"5a"], "order-7"))
    assert bench.run(scripts.delay(bench.keys, b"q", 1, ["+1", b"5b"], "order-7")) is None
    assert bench.run(scripts.enqueue(bench.keys, b"r", 1, 5, [b"c"], "order-7")) is None
    assert list(bench.delayed()) == [b"5a"]
    ttl = bench.client.pttl(bench.keys.sent("order-7"))
    assert scripts.SENT_TTL_MS < ttl <= scripts.SENT_TTL_MS + hour


def test_an_earlier_head_is_published(bench: Any, ear: Any) -> None:
    for sequence, due in enumerate(["+60000", "+90000", "+30000"], 1):
        bench.run(scripts.delay(bench.keys, b"p", sequence, [due, b"5%d" % sequence]))
    assert ear.heard() == [b"delayed", b"delayed"]


@pytest.mark.parametrize("unique_id", [None, "order-7"])
def test_without_memory_nothing_is_written(bench: Any, unique_id: str | None) -> None:
    call = scripts.delay(bench.keys, b"p", 1, ["+60000", b"5a"], unique_id)
    bench.fill_up()
    with pytest.raises(BrokerRefusedError, match="maxmemory"):
        bench.run(call)
    assert bench.snapshot() == {}
    bench.make_room()
    assert bench.run(call)
    assert list(bench.delayed()) == [b"5a"]
