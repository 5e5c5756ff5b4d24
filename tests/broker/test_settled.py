"""Ends of what was settled before it ran: each outcome is stored once, however often its call comes."""

from __future__ import annotations

from typing import Any

from taskq.broker.scripts.settling import Bury, DeadLetter, Settle, Store

STREAM = 2


def item(key: bytes, number: int, dead: bool) -> Settle:
    letter = DeadLetter(b"m", b"evidence", "print", b"label")
    end = Bury(key, number, letter) if dead else Store(key, number)
    return Settle(STREAM, b"1-%d" % number, f"id{number}", end, (), b"F" if dead else b"S", 60_000)


def test_what_was_settled_before_it_ran_is_stored_once(bench: Any) -> None:
    bench.fetch()
    key = bench.keys.stored(b"worker")
    for sent in ([1, 2], [1, 2, 3], [2, 3, 4]):  # after lost replies, with what has ended meanwhile
        assert bench.settle(*(item(key, number, bool(number % 2)) for number in sent))[3] == []
        bench.client.delete(bench.keys.result("id2"))
    assert bench.client.xlen(bench.keys.dead) == 2
    assert [bench.client.get(bench.keys.result(f"id{n}")) for n in (1, 2, 3, 4)] == [b"F", None, b"F", b"S"]
    assert (bench.client.get(key), bench.client.pttl(key) > 0) == (b"4", True)


def test_a_refused_outcome_is_not_taken_for_stored(bench: Any) -> None:
    bench.fetch()
    key = bench.keys.stored(b"worker")
    dead, stored = item(key, 1, True), item(key, 2, False)
    bench.client.set(bench.keys.dead, "of another type")
    assert bench.settle(dead, stored)[3][0] == b"1-1"
    bench.client.delete(bench.keys.dead)
    assert bench.settle(dead, stored)[3] == []  # the reply was lost
    assert bench.client.xlen(bench.keys.dead) == 1
    assert bench.client.get(bench.keys.result("id2")) == b"S"
