"""The heartbeat script: a lease is renewed by its holder, and never comes back by itself."""

from __future__ import annotations

from typing import Any

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
