"""Which fire times are due: a table, no Redis."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from taskq.beat.catch_up import MAX_AT_ONCE, due_times, jittered, latest_times, missed_between
from taskq.values.schedule import at, cron, every

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)


def minutes(*offsets: int) -> list[datetime]:
    return [NOON + timedelta(minutes=offset) for offset in offsets]


@pytest.mark.parametrize(
    ("last", "watched_since", "now", "catch_up", "expected"),
    [
        # last, watched_since and now are minutes from noon; the schedule fires every minute
        pytest.param(0, 0, 1, "last", [1], id="on time"),
        pytest.param(0, 0, 0, "all", [], id="nothing due"),
        pytest.param(0, 0, 3, "none", [1, 2, 3], id="a late look loses nothing, whatever the policy"),
        pytest.param(0, 3, 3, "none", [], id="missed, none"),
        pytest.param(0, 3, 3, "last", [3], id="missed, last"),
        pytest.param(0, 3, 3, "all", [1, 2, 3], id="missed, all"),
        pytest.param(0, 3, 5, "none", [4, 5], id="missed and on time, none"),
        pytest.param(0, 3, 5, "last", [3, 4, 5], id="missed and on time, last"),
        pytest.param(4, 3, 5, "all", [5], id="another beat was faster"),
        pytest.param(9, 3, 5, "all", [], id="the clock went back: nothing twice"),
    ],
)
def test_due_times(last: int, watched_since: int, now: int, catch_up: str, expected: list[int]) -> None:
    at_last, at_since, at_now = minutes(last, watched_since, now)
    assert due_times(every(60), at_last, at_since, at_now, catch_up, 1000) == minutes(*expected)


def test_all_makes_up_for_the_latest_so_many() -> None:
    found = due_times(every(60), NOON - timedelta(days=30), NOON, NOON, "all", 50)
    assert found == minutes(*range(-49, 1))


def test_on_time_fires_come_in_bounded_portions() -> None:
    found = due_times(every(0.1), NOON, NOON, NOON + timedelta(hours=1), "last", 1)
    assert (len(found), found[0]) == (MAX_AT_ONCE, NOON + timedelta(seconds=0.1))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (cron("0 2 * * *"), datetime(2025, 3, 1, 2, tzinfo=UTC)),
        (cron("0 0 29 2 *"), datetime(2024, 2, 29, tzinfo=UTC)),
        (at(datetime(2020, 1, 1, tzinfo=UTC)), datetime(2020, 1, 1, tzinfo=UTC)),
    ],
    ids=lambda value: getattr(value, "spec", ""),
)
def test_the_latest_time_of_a_rare_schedule(schedule: object, expected: datetime) -> None:
    assert latest_times(schedule, NOON - timedelta(days=5000), NOON, 1) == [expected]  # type: ignore[arg-type]


def test_a_decade_without_beat_is_quick() -> None:
    began = time.monotonic()
    assert len(latest_times(every(0.1), NOON - timedelta(days=3650), NOON, 1)) == 1
    assert time.monotonic() - began < 1


def test_missed_fire_times_are_counted_up_to_a_bound() -> None:
    assert missed_between(every(60), NOON, NOON + timedelta(minutes=5)) == 4
    assert missed_between(every(60), NOON, NOON + timedelta(minutes=1)) == 0
    assert missed_between(every(1), NOON - timedelta(days=9), NOON) == MAX_AT_ONCE


def test_jitter_depends_on_the_fire_time_alone() -> None:
    times = minutes(*range(200))
    later = [(jittered("job", when, 30) - when).total_seconds() for when in times]
    assert later == [(jittered("job", when, 30) - when).total_seconds() for when in times]
    assert all(0 <= seconds < 30 for seconds in later)
    assert max(later) > 25
    assert min(later) < 5
    assert jittered("job", NOON, 0) == NOON
    assert jittered("other", NOON, 30) != jittered("job", NOON, 30)
