"""The claim script: an idempotency key is given to one message."""

from __future__ import annotations

from typing import Any

from taskq.broker import scripts

HOUR = 3_600_000


def claim(bench: Any, *pairs: tuple[str, str], consumer: bytes = b"host:1:aaaa", ttl: int = HOUR) -> Any:
    claims = [(bench.keys.claim("pay", key), task_id) for key, task_id in pairs]
    return bench.run(scripts.claim(bench.keys, consumer, ttl, claims))


def test_the_first_gets_it(bench: Any) -> None:
    bench.register()
    assert claim(bench, ("k", "one")) == [1, 1]
    assert claim(bench, ("k", "two")) == [1, [b"one", b""]]
    assert claim(bench, ("another", "two")) == [1, 1]
    assert bench.client.get(bench.keys.claim("pay", "k")) == b"one"


def test_two_in_one_call(bench: Any) -> None:
    bench.register()
    assert claim(bench, ("k", "one"), ("k", "two"), ("l", "three")) == [1, 1, [b"one", b""], 1]


def test_a_message_that_comes_again_still_has_it(bench: Any) -> None:
    bench.register()
    claim(bench, ("k", "one"), ttl=1000)
    assert claim(bench, ("k", "one")) == [1, 1]
    assert 1000 < bench.client.pttl(bench.keys.claim("pay", "k")) <= HOUR


def test_the_outcome_of_the_first_comes_with_the_refusal(bench: Any) -> None:
    bench.register()
    claim(bench, ("k", "one"))
    bench.client.set(bench.keys.result("one"), b"S-result", px=HOUR)
    assert claim(bench, ("k", "two")) == [1, [b"one", b"S-result"]]


def test_a_stale_worker_gets_none(bench: Any) -> None:
    assert claim(bench, ("k", "one")) == [0]
    assert bench.snapshot() == {}
