"""The replay script: dead letters back into their queue, each at most once."""

from __future__ import annotations

from typing import Any

import pytest

from taskq.broker import scripts
from taskq.errors import BrokerRefusedError


def bury(bench: Any, *messages: bytes) -> list[bytes]:
    return [bench.client.xadd(bench.keys.dead, {"m": message, "i": b""}) for message in messages]


def five(entry: bytes, message: bytes = b"again", level: int = 5, task_id: str = "id") -> list[Any]:
    return [entry, "", str(level), message, task_id]


def replay(bench: Any, *fives: list[Any]) -> int:
    return int(bench.run(scripts.replay(bench.keys, [part for each in fives for part in each])))


def test_it_moves_and_forgets_the_old_outcome(bench: Any) -> None:
    one, two = bury(bench, b"1", b"2")
    bench.client.set(bench.keys.result("id"), b"F...")
    assert replay(bench, five(one)) == 1
    assert bench.messages() == [b"again"]
    assert [entry for entry, _ in bench.client.xrange(bench.keys.dead)] == [two]
    assert not bench.client.exists(bench.keys.result("id"))


def test_again_moves_nothing(bench: Any) -> None:
    (one,) = bury(bench, b"1")
    replay(bench, five(one))
    bench.client.set(bench.keys.result("id"), b"S...")
    before = bench.snapshot()
    assert replay(bench, five(one)) == 0
    assert bench.snapshot() == before


def test_what_was_purged_is_passed_over(bench: Any) -> None:
    one, two, three = bury(bench, b"1", b"2", b"3")
    bench.client.xdel(bench.keys.dead, two)
    assert replay(bench, five(one, b"1"), five(two, b"2"), five(three, b"3")) == 2
    assert bench.messages() == [b"1", b"3"]


def test_the_level_is_kept_and_announced(bench: Any, ear: Any) -> None:
    one, two = bury(bench, b"1", b"2")
    replay(bench, five(one, b"1", 9), five(two, b"2", 9))
    assert bench.messages(9) == [b"1", b"2"]
    assert bench.client.smembers(bench.keys.levels) == {b"9"}
    assert ear.heard() == [b"levels"]


def test_without_memory_nothing_is_lost(bench: Any) -> None:
    letters = bury(bench, b"1", b"2", b"3")
    fives = [five(entry, b"%d" % n) for n, entry in enumerate(letters)]
    bench.fill_up()
    before = bench.snapshot()
    with pytest.raises(BrokerRefusedError, match="maxmemory"):
        replay(bench, *fives)
    assert bench.snapshot() == before
    bench.make_room()
    assert replay(bench, *fives) == 3


def test_levels_lanes_and_gaps_in_one_call(bench: Any) -> None:
    one, two, three, four, five_, six = bury(bench, *(b"%d" % n for n in range(1, 7)))
    bench.client.xdel(bench.keys.dead, three, five_)
    in_lane = scripts.routed(5, b"lane", "a")[1]
    fives = [
        [one, "", "5", b"1", "a"],
        [two, "", "9", b"2", "b"],
        [three, "", "5", b"3", "c"],
        [four, "", "F", in_lane, "d"],
        [five_, "", "F", in_lane, "e"],
        [six, "", "9", b"6", "f"],
    ]
    for name in "abcdef":
        bench.client.set(bench.keys.result(name), b"F")
    assert replay(bench, *fives) == 4
    assert (bench.messages(5), bench.messages(9)) == ([b"1", b"lane"], [b"2", b"6"])
    assert bench.client.xlen(bench.keys.dead) == 0
    assert [name for name in "abcdef" if bench.client.exists(bench.keys.result(name))] == ["c", "e"]
