"""The promote script: what is due moves into its stream, a page at a time."""

from __future__ import annotations

from typing import Any

import pytest

from taskq.broker import scripts
from taskq.errors import BrokerRefusedError


def delay(bench: Any, *members: bytes, due_ms: int) -> None:
    bench.client.zadd(bench.keys.delayed, dict.fromkeys(members, due_ms))


def promote(bench: Any, page: int = 500) -> Any:
    return bench.run(scripts.promote(bench.keys, page))


def test_what_is_due_moves_and_the_rest_waits(bench: Any) -> None:
    now = bench.now_ms()
    delay(bench, b"5due", due_ms=now - 1)
    delay(bench, b"5later", due_ms=now + 60_000)
    moved, next_ms = promote(bench)
    assert moved == 1
    assert 0 < next_ms <= 60_000
    assert bench.messages() == [b"due"]
    assert list(bench.delayed()) == [b"5later"]


def test_again_moves_nothing(bench: Any) -> None:
    delay(bench, b"5due", due_ms=1)
    promote(bench)
    before = bench.snapshot()
    assert promote(bench) == [0, -1]
    assert bench.snapshot() == before


def test_the_earliest_first(bench: Any) -> None:
    for n in (3, 1, 2):
        delay(bench, b"5%d" % n, due_ms=n)
    promote(bench)
    assert bench.messages() == [b"1", b"2", b"3"]


def test_levels_come_into_use(bench: Any, ear: Any) -> None:
    delay(bench, b"9high", b"5normal", b"0low", due_ms=1)
    assert promote(bench) == [3, -1]
    assert (bench.messages(9), bench.messages(5), bench.messages(0)) == ([b"high"], [b"normal"], [b"low"])
    assert bench.client.smembers(bench.keys.levels) == {b"9", b"0"}
    assert ear.heard() == [b"levels", b"levels"]


def test_a_page_is_bounded_and_says_that_there_is_more(bench: Any) -> None:
    for n in range(5):
        delay(bench, b"5%d" % n, due_ms=n + 1)
    assert promote(bench, 2) == [2, 0]
    assert promote(bench, 2) == [2, 0]
    assert promote(bench, 2) == [1, -1]
    assert bench.messages() == [b"%d" % n for n in range(5)]


def test_without_memory_nothing_moves_and_nothing_is_lost(bench: Any) -> None:
    delay(bench, b"5a", b"9b", due_ms=1)
    bench.fill_up()
    before = bench.snapshot()
    with pytest.raises(BrokerRefusedError, match="maxmemory"):
        promote(bench)
    assert bench.snapshot() == before
    bench.make_room()
    assert promote(bench) == [2, -1]
