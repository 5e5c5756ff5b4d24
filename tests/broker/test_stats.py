"""The stats script: what is in a queue, in one command."""

from __future__ import annotations

from typing import Any

import pytest

from taskq.broker import scripts
from taskq.broker.views.survey import read_queue, read_queues
from taskq.broker.views.totals import HISTORY_MINUTES, Sums


def view(bench: Any) -> Any:
    return read_queue(bench.broker.execute, bench.keys)


def test_a_queue_that_is_not_there_is_empty(bench: Any) -> None:
    found = view(bench)
    stats = found.stats
    assert (stats.lag, stats.pending, stats.delayed, stats.dead, stats.workers) == (0, 0, 0, 0, 0)
    assert (stats.oldest_age, stats.paused, found.drain_seconds) == (None, False, 0)


def test_everything_in_a_queue_is_counted(bench: Any) -> None:
    bench.fetch(b"one", b"two")  # delivered
    born = bench.now_ms() - 5000
    bench.client.xadd(bench.keys.stream(9), {"m": b"three"}, id=f"{born}-0")
    bench.client.sadd(bench.keys.levels, 9)
    bench.client.xadd(bench.keys.stream(5), {"m": b"four"})
    bench.client.zadd(bench.keys.delayed, {"later": 10**13})
    bench.client.xadd(bench.keys.dead, {"m": b"", "i": b""})
    bench.client.sadd(bench.keys.limited, "slow")
    bench.client.rpush(bench.keys.parked("slow"), "one", "two")
    bench.run(scripts.pause(bench.keys))
    before = bench.snapshot()
    stats = view(bench).stats
    assert (stats.lag, stats.pending, stats.backlog, stats.delayed, stats.dead) == (2, 2, 6, 1, 1)
    assert (stats.workers, stats.paused, stats.parked) == (1, True, 2)
    assert 5 <= stats.oldest_age < 60
    assert bench.snapshot() == before


def test_what_ended_lately_says_how_long_the_rest_takes(bench: Any) -> None:
    bench.client.xadd(bench.keys.stream(5), {"m": b"waits"})
    assert view(bench).drain_seconds == float("inf")
    lives = (60_000, 60_000, HISTORY_MINUTES)
    bench.run(scripts.count(bench.keys, b"c", 1, Sums(600), ("SUCCESS:t", 600), lives))
    found = view(bench)
    assert 600 / 120 <= found.service_rate <= 600 / 60
    assert found.drain_seconds == pytest.approx(1 / found.service_rate)


def test_a_key_of_another_type_counts_as_empty_and_the_others_are_counted(bench: Any) -> None:
    bench.client.set(bench.keys.delayed, "not ours")
    bench.client.xadd(bench.keys.dead, {"m": "one"})
    bench.client.sadd(bench.keys.levels, "-5", "x", "")
    (found,) = read_queues(bench.broker.pipeline, [bench.keys])
    assert (found.stats.delayed, found.stats.dead) == (0, 1)
    assert view(bench).stats == found.stats
