"""The wait script: read the outcome or ask to be told, in one step."""

from __future__ import annotations

from typing import Any

import pytest

from taskq.broker import scripts


def test_without_an_outcome_the_client_is_noted(bench: Any) -> None:
    assert bench.run(scripts.wait(bench.keys, "a", b"channel-1")) is None
    assert bench.client.hgetall(bench.keys.waiting) == {b"a": b"channel-1"}
    assert 0 < bench.client.pttl(bench.keys.waiting) <= scripts.WAITING_TTL_MS


def test_again_notes_it_once(bench: Any) -> None:
    for channel in (b"channel-1", b"channel-11", b"channel-1", b"channel-11"):
        bench.run(scripts.wait(bench.keys, "a", channel))
    assert bench.client.hget(bench.keys.waiting, "a") == b"channel-1 channel-11"


@pytest.mark.parametrize("outcome", [b"S...", b"F...", b"V...", b"X..."])
def test_an_outcome_is_returned_and_nothing_noted(bench: Any, outcome: bytes) -> None:
    bench.client.set(bench.keys.result("a"), outcome)
    assert bench.run(scripts.wait(bench.keys, "a", b"channel-1")) == outcome
    assert not bench.client.exists(bench.keys.waiting)


def test_a_retry_is_returned_and_waited_on(bench: Any) -> None:
    bench.client.set(bench.keys.result("a"), b"R...")
    assert bench.run(scripts.wait(bench.keys, "a", b"channel-1")) == b"R..."
    assert bench.client.hgetall(bench.keys.waiting) == {b"a": b"channel-1"}


def test_without_a_channel_it_only_reads(bench: Any) -> None:
    assert bench.run(scripts.wait(bench.keys, "a", b"")) is None
    assert bench.snapshot() == {}
