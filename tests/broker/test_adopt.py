"""The adopt script: deliveries of a name without a lease are marked for recovery."""

from __future__ import annotations

from typing import Any

from taskq.broker import scripts


def adopt(bench: Any) -> int:
    return int(bench.run(scripts.adopt(bench.keys, bench.streams)))


def test_who_holds_deliveries_without_a_lease_is_marked_and_recovered_uncharged(bench: Any) -> None:
    bench.fetch(b"a", consumer=b"stale")
    bench.client.zrem(bench.keys.consumers, b"stale")
    assert adopt(bench) == 1
    assert bench.run(scripts.recover(bench.keys, bench.streams, b"", 1)) == [1, 0, -1, b"stale"]
    assert [fields for _, fields in bench.client.xrange(bench.streams[0])] == [{b"m": b"a"}]


def test_again_changes_nothing(bench: Any) -> None:
    bench.fetch(b"a", consumer=b"stale")
    bench.client.zrem(bench.keys.consumers, b"stale")
    adopt(bench)
    before = bench.snapshot()
    assert adopt(bench) == 0
    assert bench.snapshot() == before


def test_living_workers_and_recoveries_under_way_are_left_alone(bench: Any) -> None:
    bench.fetch(b"a", b"b", consumer=b"dead")
    bench.watched()
    bench.client.zadd(bench.keys.consumers, {"dead": 1})
    bench.run(scripts.recover(bench.keys, bench.streams, b"", 1, 1))
    bench.fetch(b"c", consumer=b"alive")
    before = bench.snapshot()
    assert adopt(bench) == 0
    assert bench.snapshot() == before


def test_a_name_that_holds_nothing_and_a_missing_group_are_passed_over(bench: Any) -> None:
    bench.register(b"idle")
    bench.settle(want=1, consumer=b"idle")
    bench.client.zrem(bench.keys.consumers, b"idle")
    bench.client.xgroup_destroy(bench.streams[0], "taskq")
    assert adopt(bench) == 0
