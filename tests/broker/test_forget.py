"""The forget script: only a consumer that is nobody's and holds nothing goes."""

from __future__ import annotations

from typing import Any

import pytest

from taskq.broker import scripts

CONSUMER = b"host:1:aaaa"


def consumers(bench: Any) -> list[bytes]:
    return [row["name"] for row in bench.client.xinfo_consumers(bench.streams[1], "taskq")]


def forget(bench: Any) -> int:
    return int(bench.run(scripts.forget(bench.keys, bench.streams[1], CONSUMER)))


def test_who_has_no_lease_and_holds_nothing_goes(bench: Any) -> None:
    (entry,) = bench.fetch(b"x")
    assert forget(bench) == 0, "it lives"
    bench.client.zrem(bench.keys.consumers, CONSUMER)
    assert forget(bench) == 0, "it holds a delivery"
    bench.client.xack(bench.streams[1], "taskq", entry)
    assert forget(bench) == 1
    assert consumers(bench) == []
    assert forget(bench) == 0


@pytest.mark.parametrize("charge", [b"!0", b"!1"])
def test_who_is_being_recovered_stays(bench: Any, charge: bytes) -> None:
    (entry,) = bench.fetch(b"x")
    bench.client.xack(bench.streams[1], "taskq", entry)
    bench.client.zrem(bench.keys.consumers, CONSUMER)
    bench.client.zadd(bench.keys.consumers, {charge + CONSUMER: 0})
    assert forget(bench) == 0
    assert consumers(bench) == [CONSUMER]


def test_without_a_group_there_is_nothing_to_forget(bench: Any) -> None:
    assert forget(bench) == 0
