"""The commit script: a reader's group moves on, unless somebody else has moved it."""

from __future__ import annotations

from typing import Any

from taskq.broker.keys import Keys
from taskq.broker.scripts import topics as topic_scripts

TOPIC = Keys("bench").topic("orders")


def commit(bench: Any, after: str, to: str, ordinal: int, missed: int = 0) -> Any:
    bench.tag = b"{orders/}"
    return bench.run(topic_scripts.commit(TOPIC, "g", after, to, ordinal, missed))


def test_the_position_moves_on(bench: Any) -> None:
    bench.client.hset(TOPIC.state, mapping={"cursor:g": "0-0", "read:g": 0})
    assert commit(bench, "0-0", "5-0", 3) == 1
    assert commit(bench, "5-0", "9-0", 7, missed=2) == 1
    assert bench.client.hgetall(TOPIC.state) == {b"cursor:g": b"9-0", b"read:g": b"7", b"trimmed:g": b"2"}


def test_a_commit_that_comes_again_changes_nothing(bench: Any) -> None:
    bench.client.hset(TOPIC.state, mapping={"cursor:g": "0-0", "read:g": 0})
    commit(bench, "0-0", "5-0", 3, missed=1)
    before = bench.snapshot()
    assert commit(bench, "0-0", "5-0", 3, missed=1) == 1
    assert bench.snapshot() == before


def test_who_comes_second_is_refused(bench: Any) -> None:
    bench.client.hset(TOPIC.state, mapping={"cursor:g": "5-0", "read:g": 3})
    before = bench.snapshot()
    assert commit(bench, "0-0", "4-0", 2) == 0
    assert commit(bench, "0-0", "6-0", 4) == 0
    assert bench.snapshot() == before


def test_a_group_that_is_gone_is_refused(bench: Any) -> None:
    assert commit(bench, "0-0", "4-0", 2) == 0
    assert bench.snapshot() == {}
