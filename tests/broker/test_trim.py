"""The trim script: what a topic need not keep goes, also when nothing is published any more."""

from __future__ import annotations

from typing import Any

from taskq.broker.keys import Keys
from taskq.broker.scripts import topics as topic_scripts

TOPIC = Keys("bench").topic("orders")


def trim(bench: Any) -> Any:
    bench.tag = b"{orders/}"
    return bench.run(topic_scripts.trim(TOPIC))


def fill(bench: Any, count: int, age_ms: int = 0) -> None:
    now = bench.now_ms() - age_ms
    with bench.client.pipeline(transaction=False) as pipeline:
        for n in range(count):
            pipeline.xadd(TOPIC.events, {"m": b"x" * 20, "n": n + 1}, id=f"{now}-{n + 1}")
        pipeline.execute()


def test_by_age(bench: Any) -> None:
    fill(bench, 300, age_ms=60_000)
    bench.client.hset(TOPIC.state, mapping={"age": 3_600_000, "events": 0, "bytes": 0})
    assert trim(bench) == 300
    bench.client.hset(TOPIC.state, "age", 30_000)
    assert trim(bench) < 100


def test_by_count(bench: Any) -> None:
    fill(bench, 500)
    bench.client.hset(TOPIC.state, mapping={"age": 0, "events": 200, "bytes": 0})
    assert 200 <= trim(bench) < 300
    assert 200 <= trim(bench) < 300


def test_by_size(bench: Any) -> None:
    fill(bench, 5000)
    size = bench.client.memory_usage(TOPIC.events)
    bench.client.hset(TOPIC.state, mapping={"age": 0, "events": 0, "bytes": size // 2})
    assert 1000 < trim(bench) < 3500


def test_without_limits_or_events(bench: Any) -> None:
    assert trim(bench) == 0
    fill(bench, 200)
    assert trim(bench) == 200
