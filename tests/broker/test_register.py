"""The register script: a lease, and the streams and groups it is for."""

from __future__ import annotations

from typing import Any

from taskq.broker import scripts


def test_a_lease_is_a_deadline_on_the_servers_clock(bench: Any) -> None:
    before = bench.now_ms()
    deadline = bench.register(lease_ms=5000)
    assert before + 5000 <= deadline <= bench.now_ms() + 5000
    assert bench.client.zrange(bench.keys.consumers, 0, -1, withscores=True) == [(b"host:1:aaaa", deadline)]


def test_groups_begin_at_the_first_message_ever_sent(bench: Any) -> None:
    bench.client.xadd(bench.streams[1], {"m": b"sent before any worker"})
    bench.register()
    _, rows, *_ = bench.settle(want=10)
    ((number, entries),) = rows
    assert number == 2
    assert [fields for _, fields in entries] == [[b"m", b"sent before any worker"]]


def test_again_renews_and_changes_nothing_else(bench: Any) -> None:
    first = bench.register(lease_ms=1000)
    bench.fetch(b"a")
    before = bench.snapshot()
    assert bench.register(lease_ms=9000) > first
    after = bench.snapshot()
    assert before.pop(bench.keys.consumers) != after.pop(bench.keys.consumers)
    assert before == after


def test_a_destroyed_group_is_made_again(bench: Any) -> None:
    bench.register()
    bench.client.xadd(bench.streams[1], {"m": b"a"})
    bench.client.xgroup_destroy(bench.streams[1], "taskq")
    bench.register()
    assert bench.settle(want=1)[1][0][0] == 2


def test_a_key_of_another_type_is_named_and_the_other_streams_can_be_read(bench: Any) -> None:
    bench.client.set(bench.streams[1], "not a stream")
    deadline, *unreadable = bench.run(scripts.register(bench.keys, b"c", 1000, bench.streams))
    assert bench.client.zscore(bench.keys.consumers, "c") == deadline
    assert unreadable == [2]
    bench.client.xadd(bench.streams[0], {"m": "one"})
    status, rows, *_, trouble = bench.settle(want=2, consumer=b"c")
    assert (status, [number for number, _ in rows]) == (1, [1])
    assert b"WRONGTYPE" in trouble
