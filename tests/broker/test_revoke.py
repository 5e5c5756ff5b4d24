"""The revoke script: a mark that outlives its caller, unless the message has ended."""

from __future__ import annotations

from typing import Any

import pytest

from taskq.broker import scripts


def test_it_is_remembered_and_published(bench: Any, ear: Any) -> None:
    before = bench.now_ms()
    assert bench.run(scripts.revoke(bench.keys, "order 7", 60_000)) == 1
    score = bench.client.zscore(bench.keys.revoked, "order 7")
    assert before + 60_000 <= score <= bench.now_ms() + 60_000
    assert 0 < bench.client.pttl(bench.keys.revoked) <= 60_000
    assert ear.heard() == [b"revoked order 7"]


def test_again_only_renews(bench: Any) -> None:
    bench.run(scripts.revoke(bench.keys, "a", 60_000))
    assert bench.run(scripts.revoke(bench.keys, "a", 60_000)) == 1
    assert bench.client.zcard(bench.keys.revoked) == 1


@pytest.mark.parametrize("outcome", [b"S...", b"F...", b"V...", b"X..."])
def test_what_has_ended_is_left_alone(bench: Any, ear: Any, outcome: bytes) -> None:
    bench.client.set(bench.keys.result("a"), outcome)
    before = bench.snapshot()
    assert bench.run(scripts.revoke(bench.keys, "a", 60_000)) == 0
    assert bench.snapshot() == before
    assert ear.heard() == []


def test_a_message_between_two_attempts_has_not_ended(bench: Any) -> None:
    bench.client.set(bench.keys.result("a"), b"R...")
    assert bench.run(scripts.revoke(bench.keys, "a", 60_000)) == 1


def test_old_marks_are_forgotten(bench: Any) -> None:
    bench.client.zadd(bench.keys.revoked, {"old": 1})
    bench.run(scripts.revoke(bench.keys, "new", 60_000))
    assert bench.client.zrange(bench.keys.revoked, 0, -1) == [b"new"]


def test_a_short_memory_does_not_shorten_a_long_one(bench: Any) -> None:
    bench.run(scripts.revoke(bench.keys, "long", 600_000))
    bench.run(scripts.revoke(bench.keys, "short", 1_000))
    assert bench.client.pttl(bench.keys.revoked) > 300_000
