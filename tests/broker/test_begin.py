"""The begin script: the record of a run of replays."""

from __future__ import annotations

from typing import Any

from taskq.broker import scripts


def begin(bench: Any, run: str, now_ms: int, *fields: str, kept: int = 3) -> int:
    answer: int = bench.run(scripts.begin(bench.keys, run, now_ms, kept, fields))
    return answer


def test_a_run_begins_once_and_ends_by_itself(bench: Any) -> None:
    assert begin(bench, "a", 1, "state", "running", "actor", "ann") == 1
    bench.client.hset(bench.keys.dead_run("a"), "state", "done")
    assert begin(bench, "a", 2, "state", "running", "actor", "bob") == 0
    assert bench.client.hgetall(bench.keys.dead_run("a")) == {b"state": b"done", b"actor": b"ann"}
    assert bench.client.zscore(bench.keys.dead_runs, "a") == 1
    assert bench.client.pttl(bench.keys.dead_run("a")) > 0
    assert bench.client.pttl(bench.keys.dead_runs) > 0


def test_only_the_latest_runs_are_listed(bench: Any) -> None:
    for number in range(5):
        begin(bench, str(number), number, "state", "running")
    assert bench.client.zrange(bench.keys.dead_runs, 0, -1) == [b"2", b"3", b"4"]
