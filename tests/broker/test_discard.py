"""The discard, restore and retire scripts: dead letters deleted, brought back, and let go for their age or number."""

from __future__ import annotations

from typing import Any

import pytest

from taskq.broker import scripts
from taskq.errors import BrokerRefusedError

RUN = "run"


def bury(bench: Any, *groups: str) -> list[bytes]:
    """Dead letters, counted in their groups."""
    found = []
    for group in groups:
        found.append(bench.client.xadd(bench.keys.dead, {"m": b"m", "i": b"i", "g": group}))
        bench.client.hincrby(bench.keys.dead_groups, f"n:{group}", 1)
    return found


def left(bench: Any) -> list[bytes]:
    return [entry for entry, _ in bench.client.xrange(bench.keys.dead)]


def test_discard_deletes_once_and_counts_out(bench: Any) -> None:
    one, two, three = bury(bench, "a", "a", "b")
    bench.client.set(bench.keys.result("id"), b"F")
    for expected in (2, 0):
        assert bench.run(scripts.discard(bench.keys, (one, "a", "id", three, "b", "id"))) == expected
        assert bench.client.hgetall(bench.keys.dead_groups) == {b"n:a": b"1"}
    assert bench.client.exists(bench.keys.result("id"))
    assert bench.run(scripts.discard(bench.keys, (two, "a", "id"), RUN, with_results=True)) == 1
    assert not bench.client.exists(bench.keys.result("id"), bench.keys.dead_groups)
    assert bench.client.hgetall(bench.keys.dead_run(RUN)) == {b"replayed:a": b"1"}
    assert bench.client.pttl(bench.keys.dead_run(RUN)) > 0


def test_discard_needs_no_memory(bench: Any) -> None:
    entries = bury(bench, "a", "b")
    bench.fill_up()
    assert (
        bench.run(
            scripts.discard(
                bench.keys, [part for entry, group in zip(entries, "ab", strict=True) for part in (entry, group, "id")]
            )
        )
        == 2
    )
    assert left(bench) == []


def test_replay_counts_in_its_run_and_keeps_to_its_limit(bench: Any) -> None:
    entries = bury(bench, "a", "a", "a", "b")
    fives = [part for entry, of in zip(entries, "aaab", strict=True) for part in (entry, of, "5", b"again", "id")]
    assert bench.run(scripts.replay(bench.keys, fives, RUN, 2)) == 3
    assert bench.client.hgetall(bench.keys.dead_run(RUN)) == {b"replayed:a": b"2", b"replayed:b": b"1"}
    assert bench.run(scripts.replay(bench.keys, fives, RUN, 2)) == 0
    assert bench.client.hgetall(bench.keys.dead_groups) == {b"n:a": b"1"}
    assert bench.run(scripts.replay(bench.keys, fives, "other")) == 1
    assert not bench.client.exists(bench.keys.dead_groups)
    assert bench.client.pttl(bench.keys.dead_run(RUN)) > 0


def six(identity: str, entry: str, message: bytes = b"m") -> tuple[Any, ...]:
    return (identity, entry, message, b"i", "print", b"label")


def test_restore_brings_back_once(bench: Any) -> None:
    call = scripts.restore(bench.keys, (*six("one", "5-0"), *six("two", "6-1", b"n")))
    assert bench.run(call) == 2
    assert left(bench) == [b"5-0", b"6-1"]
    assert bench.client.hget(bench.keys.dead_groups, "n:print") == b"2"
    assert bench.run(call) == 0
    bench.client.delete(bench.keys.sent("one"), bench.keys.sent("two"))
    assert bench.run(call) == 0  # they are still there
    bench.client.xdel(bench.keys.dead, "6-1")
    assert bench.run(call) == 1
    assert left(bench)[0] == b"5-0"
    assert len(left(bench)) == 2
    assert bench.client.pttl(bench.keys.sent("two")) > 0


def test_restore_counts_kinds_and_puts_what_is_beyond_a_thousand_into_one(bench: Any) -> None:
    bench.client.hset(bench.keys.dead_groups, mapping={f"{field}:{n}": "1" for n in range(998) for field in "nlfe"})
    sixes: list[Any] = []
    for n in range(4):
        for again in range(2):
            sixes += (f"{n} {again}", f"{n * 2 + again + 1}-0", b"m", b"i", f"new{n}", f"label{again}")
    assert bench.run(scripts.restore(bench.keys, sixes)) == 8
    assert bench.run(scripts.restore(bench.keys, sixes)) == 0
    told = bench.client.hmget(
        bench.keys.dead_groups, "n:new0", "f:new0", "e:new0", "l:new0", "n:new1", "n:new2", "n:other"
    )
    assert told == [b"2", b"1-0", b"2-0", b"label1", b"2", None, b"4"]
    assert [fields[b"g"] for _, fields in bench.client.xrange(bench.keys.dead)][-4:] == [b"other"] * 4


def test_restore_takes_no_id_of_the_future(bench: Any) -> None:
    assert bench.run(scripts.restore(bench.keys, six("one", f"{bench.now_ms() + 3_600_000}-0"))) == 1
    assert int(left(bench)[0].partition(b"-")[0]) <= bench.now_ms()


def test_restore_without_memory_writes_nothing(bench: Any) -> None:
    bench.fill_up()
    before = bench.snapshot()
    with pytest.raises(BrokerRefusedError, match="maxmemory"):
        bench.run(scripts.restore(bench.keys, six("one", "5-0")))
    assert bench.snapshot() == before


def test_retire_lets_go_of_the_oldest(bench: Any) -> None:
    old = bench.now_ms() - 10_000
    for n in range(5):
        bench.client.xadd(bench.keys.dead, {"m": b"m", "i": b"i", "g": "a"}, id=f"{old + n}-0")
        bench.client.hincrby(bench.keys.dead_groups, "n:a", 1)
    new = bury(bench, "b", "b", "b")
    assert bench.run(scripts.evict(bench.keys, None, None)) == [0, 0, 0]
    assert bench.run(scripts.evict(bench.keys, 5_000, None, 3)) == [3, 0, 1]
    assert bench.run(scripts.evict(bench.keys, 5_000, 2, 3)) == [2, 1, 1]
    assert left(bench) == new[1:]
    assert bench.client.hgetall(bench.keys.dead_groups) == {b"n:b": b"2"}
    assert bench.run(scripts.evict(bench.keys, 5_000, 2, 3)) == [0, 0, 0]
    bench.fill_up()
    assert bench.run(scripts.evict(bench.keys, None, 0)) == [0, 2, 0]
    assert not bench.client.exists(bench.keys.dead_groups)


def test_retire_takes_few_large_ones_at_a_time(bench: Any) -> None:
    for _ in range(50):
        bench.client.xadd(bench.keys.dead, {"m": b"m" * 100_000, "i": b"i", "g": "a"})
    bench.client.hset(bench.keys.dead_groups, "n:a", 50)
    assert bench.run(scripts.evict(bench.keys, None, 5)) == [0, 20, 1]
    assert bench.run(scripts.evict(bench.keys, None, 5)) == [0, 20, 1]
    assert bench.run(scripts.evict(bench.keys, None, 5)) == [0, 5, 0]
    assert bench.client.hgetall(bench.keys.dead_groups) == {b"n:a": b"5"}
