"""The count script: what workers have ended, added once, and a history that keeps its size."""

from __future__ import annotations

from typing import Any

from taskq.broker import scripts
from taskq.broker.calls import Call
from taskq.broker.scripts import LATEST_KEPT, LATEST_TTL_MS
from taskq.broker.views.ended import pack, read_ended
from taskq.broker.views.totals import HISTORY_MINUTES, Sums, minutes_of, per_second, read_history, read_totals

LIVES = (60_000, 50_000, HISTORY_MINUTES)


def count(bench: Any, sequence: int, ended: int = 2, worker: bytes = b"c", latest: Any = ((), ())) -> Call:
    fields = ("SUCCESS:shop.pay", ended, "ms:shop.pay", 1500)
    return scripts.count(bench.keys, worker, sequence, Sums(ended, 0, 0, 1500, 1, 30), fields, LIVES, latest)


def test_what_ended_is_added_to_the_totals_and_to_the_minute(bench: Any) -> None:
    assert [bench.run(count(bench, 1)), bench.run(count(bench, 2))] == [1, 1]
    assert bench.run(count(bench, 1, worker=b"other")) == 1
    totals = read_totals(bench.broker.pipeline, [bench.keys])["q"]["shop.pay"]
    assert (totals.states, totals.runtime, totals.runs) == ({"SUCCESS": 6}, 4.5, 6)
    minutes = read_history(bench.broker.pipeline, [bench.keys])["q"]
    assert Sums(*map(sum, zip(*(minute.sums for minute in minutes), strict=True))) == Sums(6, 0, 0, 4500, 3, 90)


def test_the_same_call_again_adds_nothing(bench: Any) -> None:
    bench.run(count(bench, 7))
    before = bench.snapshot()
    assert [bench.run(count(bench, 7)), bench.run(count(bench, 6))] == [0, 0]
    assert bench.snapshot() == before


def test_the_latest_are_kept_newest_first_and_bounded(bench: Any) -> None:
    rows = [pack((n, "SUCCESS", "shop.pay", str(n), "w")) for n in range(LATEST_KEPT + 5)]
    bench.run(count(bench, 1, latest=(rows[:3], [pack((9, "FAILURE", "shop.pay", "x", "w", 4, 0.5, True))])))
    bench.run(count(bench, 2, latest=(rows[3:], [b"nonsense"])))
    bench.run(count(bench, 2, latest=(rows, rows)))
    found = [each for _, each in read_ended(bench.broker.pipeline, [bench.keys])]
    (failed,) = [each for each in found if each.state == "FAILURE"]
    assert (failed.at, failed.attempt, failed.runtime, failed.kept) == (9, 4, 0.5, True)
    assert [each.at for each in found if each is not failed] == [*range(LATEST_KEPT + 4, 4, -1)]
    lives = [bench.client.pttl(key) for key in (bench.keys.ended_well, bench.keys.ended_otherwise)]
    assert 0 < min(lives) <= max(lives) <= LATEST_TTL_MS


def test_everything_it_writes_runs_out(bench: Any) -> None:
    bench.run(count(bench, 1))
    lives = [bench.client.pttl(key) for key in (bench.keys.totals, bench.keys.history, bench.keys.producer(b"c"))]
    assert 0 < lives[0] <= 60_000
    assert 0 < lives[1] <= 50_000
    assert lives[2] > 0


def test_a_minute_replaces_the_one_of_two_hours_ago(bench: Any) -> None:
    minute = bench.now_ms() // 60_000
    for slot in (minute % HISTORY_MINUTES, (minute + 1) % HISTORY_MINUTES):  # the next may begin meanwhile
        bench.client.hset(bench.keys.history, slot, f"{12_345 * HISTORY_MINUTES + slot} 9 9 9 9 9 9")
    bench.run(count(bench, 1))
    (counted,) = read_history(bench.broker.pipeline, [bench.keys])["q"]
    assert counted.sums.ended == 2
    assert bench.client.hlen(bench.keys.history) == 2


def test_a_history_gives_a_rate() -> None:
    now = 60_000_030.0
    rows = [b"%d 45 0 0 0 0 0" % (now // 60 - ago) for ago in (0, 1, 2)]
    assert per_second(minutes_of(rows), now) == 1  # 90 in the 90 seconds of two minutes; the third is too old
    assert per_second(minutes_of([None, b"", b"nonsense", b"1 2"]), now) == 0
