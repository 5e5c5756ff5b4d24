"""The heartbeat script: a lease is renewed by its holder, and never comes back by itself."""

from __future__ import annotations

from typing import Any

import pytest

from taskq.broker import scripts


def test_it_renews(bench: Any) -> None:
    bench.register(b"c", lease_ms=1000)
    before = bench.now_ms()
    assert bench.run(scripts.heartbeat(bench.keys, b"c", 5000)) == [1, 5000]
    assert before + 5000 <= bench.client.zscore(bench.keys.consumers, b"c") <= bench.now_ms() + 5000


def test_twice_within_a_millisecond_is_still_ours(bench: Any) -> None:
    bench.register(b"c")
    call = scripts.heartbeat(bench.keys, b"c", 5000)
    assert {bench.run(call)[0] for _ in range(200)} == {1}


def test_a_lost_lease_is_not_renewed(bench: Any) -> None:
    bench.register(b"other")
    before = bench.snapshot()
    assert bench.run(scripts.heartbeat(bench.keys, b"c", 5000)) == [0, 0]
    assert bench.snapshot() == before


def test_it_tells_when_the_next_lease_runs_out(bench: Any) -> None:
    bench.watched()
    bench.register(b"c")
    bench.register(b"soon", lease_ms=2000)
    renewed, due_ms = bench.run(scripts.heartbeat(bench.keys, b"c", 60_000))
    assert renewed == 1
    assert 0 < due_ms <= 2000
    bench.client.zadd(bench.keys.consumers, {"late": 1})
    assert bench.run(scripts.heartbeat(bench.keys, b"c", 60_000)) == [1, 0]


def test_a_late_renewal_counts_as_long_as_nobody_took_over(bench: Any) -> None:
    bench.register(b"c", lease_ms=0)
    assert bench.run(scripts.heartbeat(bench.keys, b"c", 5000)) == [1, 5000]


def leases(bench: Any) -> dict[bytes, float]:
    return dict(bench.client.zrange(bench.keys.consumers, 0, -1, withscores=True))


@pytest.mark.parametrize("last", [None, "far ahead", "long ago", "nonsense"])
def test_when_nobody_could_renew_every_lease_gets_its_whole_time_once(bench: Any, last: str | None) -> None:
    bench.register(b"c")
    bench.client.zadd(bench.keys.consumers, {"expired": 1, "for ever": 1e15, "!1taken over": 0})
    if last is not None:
        shift = {"far ahead": 4000, "long ago": -4000}.get(last)
        bench.client.set(bench.keys.renewed, last if shift is None else f"{bench.now_ms() + shift} 3333 0")
    beat = scripts.heartbeat(bench.keys, b"c", 5000)
    before = bench.now_ms()
    assert bench.run(beat) == [1, 0]
    found = leases(bench)
    assert found.pop(b"!1taken over") == 0
    assert set(found) == {b"c", b"expired", b"for ever"}
    assert all(before + 5000 <= deadline <= bench.now_ms() + 5000 for deadline in found.values())
    bench.client.zadd(bench.keys.consumers, {"expired": 1})
    bench.run(beat)
    assert leases(bench)[b"expired"] == 1, "the grace is given once"


def test_a_worker_that_is_always_late_keeps_the_dead_alive_three_times(bench: Any) -> None:
    bench.register(b"late")
    extended = []
    for _ in range(5):
        bench.client.zadd(bench.keys.consumers, {"dead": 1})
        if last := bench.client.get(bench.keys.renewed):
            bench.client.set(bench.keys.renewed, b" ".join([b"%d" % (bench.now_ms() - 4000), *last.split()[1:]]))
        bench.run(scripts.heartbeat(bench.keys, b"late", 5000))
        extended.append(leases(bench)[b"dead"] > 1)
    assert extended == [True, True, True, False, False]
    bench.run(scripts.heartbeat(bench.keys, b"late", 5000))
    assert bench.client.get(bench.keys.renewed).endswith(b" 0"), "one in time, and the row is over"


def test_the_time_of_the_last_renewal_counts_for_two_thirds_of_a_lease(bench: Any) -> None:
    bench.register(b"c")
    bench.run(scripts.heartbeat(bench.keys, b"c", 6000))
    at, patience, graces = map(int, bench.client.get(bench.keys.renewed).split())
    assert abs(at - bench.now_ms()) < 1000
    assert (patience, graces) == (4000, 1)
    assert 20_000 < bench.client.pttl(bench.keys.renewed) <= 24_000


def test_a_stale_worker_gives_nobody_time(bench: Any) -> None:
    bench.client.zadd(bench.keys.consumers, {"expired": 1})
    before = bench.snapshot()
    assert bench.run(scripts.heartbeat(bench.keys, b"c", 5000)) == [0, 0]
    assert bench.snapshot() == before
