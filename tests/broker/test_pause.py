"""The pause and resume scripts, and what settle fetches of a paused queue."""

from __future__ import annotations

from typing import Any

from taskq.broker import scripts
from taskq.broker.scripts.settling import COMPLETE, Settle

REVOKED, PAUSED = 1, 2


def test_a_paused_queue_gives_nothing_and_says_so(bench: Any) -> None:
    bench.register()
    bench.client.xadd(bench.streams[1], {"m": "one"})
    assert bench.run(scripts.pause(bench.keys)) == 1
    assert bench.settle(want=5) == [1, [], PAUSED, [], [], b""]
    assert bench.pending() == []
    assert bench.run(scripts.resume(bench.keys)) == 1
    _, rows, flags, *_ = bench.settle(want=5)
    assert (len(rows), flags) == (1, 0)


def test_what_runs_is_settled_while_the_queue_is_paused(bench: Any) -> None:
    (entry,) = bench.fetch(b"one")
    bench.run(scripts.pause(bench.keys))
    assert bench.settle(Settle(2, entry, "id", COMPLETE, (), b"S-done", 60_000), want=5)[:3] == [1, [], PAUSED]
    assert bench.client.get(bench.keys.result("id")) == b"S-done"
    assert bench.pending() == []


def test_revocations_are_told_apart_from_a_pause(bench: Any) -> None:
    bench.register()
    bench.run(scripts.revoke(bench.keys, "a", 60_000))
    assert bench.settle(want=1)[2] == REVOKED
    bench.run(scripts.pause(bench.keys))
    assert bench.settle(want=1)[2] == REVOKED | PAUSED
    bench.client.delete(bench.keys.revoked)
    assert bench.settle(want=1)[2] == PAUSED


def test_again_changes_nothing_and_keeps_the_time(bench: Any, ear: Any) -> None:
    before = bench.now_ms()
    bench.run(scripts.pause(bench.keys))
    since = bench.client.get(bench.keys.paused)
    assert before <= int(since) <= bench.now_ms()
    assert bench.run(scripts.pause(bench.keys)) == 0
    assert bench.client.get(bench.keys.paused) == since
    assert bench.client.ttl(bench.keys.paused) == -1
    assert bench.run(scripts.resume(bench.keys)) == 1
    assert bench.run(scripts.resume(bench.keys)) == 0
    assert bench.client.exists(bench.keys.paused) == 0
    assert ear.heard() == [b"paused"] * 4
