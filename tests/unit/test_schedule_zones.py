"""Cron lines against the minute-by-minute walk, in many zones: at clock changes, date-line skips and leap days.

A case is one question ``next_after``. The long run of 100,000 cases, with its counts::

    pytest -m soak -s tests/unit/test_schedule_zones.py
"""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from support.cronwalk import MINUTE, Reference, Walk, first_after

from taskq.errors import ScheduleError
from taskq.values.schedule import Cron, cron

DAY = timedelta(days=1)
ZONES = [
    "UTC",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Dublin",
    "Europe/Lisbon",
    "Europe/Moscow",
    "Europe/Istanbul",
    "America/New_York",
    "America/Los_Angeles",
    "America/Sao_Paulo",
    "America/Santiago",
    "America/St_Johns",
    "America/Havana",
    "America/Caracas",
    "America/Scoresbysund",
    "America/Asuncion",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/El_Aaiun",
    "Asia/Tehran",
    "Asia/Amman",
    "Asia/Gaza",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Seoul",
    "Asia/Pyongyang",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "Australia/Adelaide",
    "Antarctica/Troll",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Pacific/Apia",
    "Pacific/Fakaofo",
    "Pacific/Kwajalein",
    "Pacific/Kanton",
]
LONG_AGO = {
    "Asia/Seoul": ["1988-05-07", "1988-10-08"],
    "Pacific/Kwajalein": ["1969-09-30", "1993-08-21"],
    "Pacific/Kanton": ["1994-12-31"],
    "Europe/London": ["1971-10-31"],
}
"""Changes before those that :func:`changes` looks for."""
LEAP_DAYS = ["2000-02-29", "2024-02-29", "2096-02-29", "2100-02-28"]

MINUTES = ["0", "30", "59", "*", "*/7", "*/20", "15,45", "0-10/5", "1-3", "5"]
HOURS = ["*", "*/2", "*/3", "0", "1", "2", "3", "23", "0-4", "1,2,3", "0-23", "22-23", "0-23/2", "12"]
WEEKDAYS = ["*", "*", "*", "0", "1-5", "6", "7"]


def changes(zone: ZoneInfo, first: int, last: int) -> list[datetime]:
    """Days of these years on which a zone's clocks change."""
    found, when = [], datetime(first, 1, 1, tzinfo=UTC)
    before = when.astimezone(zone).utcoffset()
    while when.year <= last:
        when += DAY
        offset = when.astimezone(zone).utcoffset()
        if offset != before:
            found.append(when - DAY / 2)
        before = offset
    return found


def places(name: str, first: int, last: int) -> list[datetime]:
    """Where it may go wrong in a zone."""
    texts = LONG_AGO.get(name, []) + LEAP_DAYS
    listed = [datetime.fromisoformat(text).replace(hour=12, tzinfo=UTC) for text in texts]
    return listed + changes(ZoneInfo(name), first, last)


def line_near(random_: random.Random, place: datetime) -> str:
    """A cron line, most likely one that fires about *place*: others are a search over years, and another test's."""
    day, month = place.day, place.month
    days = random_.choice(["*", "*", "*", "*", f"{day}", f"{day},28,29", "25-31", "1,30", f"1-{day}"])
    months = random_.choice(["*", "*", "*", f"{month}", f"{month},{month % 12 + 1}", "2,3,9-12"])
    return " ".join([random_.choice(MINUTES), random_.choice(HOURS), days, months, random_.choice(WEEKDAYS)])


def usable(random_: random.Random, zone: str, place: datetime) -> tuple[str, Cron]:
    while True:
        line = line_near(random_, place)
        try:
            return line, cron(line, zone)
        except ScheduleError as error:
            assert "never fires" in str(error)  # noqa: PT017 - some mixtures have no date


def compare(cases: int, per_walk: int, per_line: int, years: tuple[int, int], seed: int) -> tuple[Counter[str], int]:
    """Ask *cases* questions; how many in each zone, and how many answers fell into the walk.

    Args:
        cases: how many questions, over all zones.
        per_walk: lines tried in one place of one zone.
        per_line: questions about one line there.
        years: whose clock changes are visited.
        seed: of the choices.
    """
    random_ = random.Random(seed)
    spots = {name: places(name, *years) for name in ZONES}
    asked: Counter[str] = Counter()
    inside = 0
    while asked.total() < cases:
        for name in ZONES:
            place = random_.choice(spots[name]) + random_.randint(-600, 600) * MINUTE
            walk = Walk(ZoneInfo(name), place - 3 * DAY, place + 1 * DAY)
            for _ in range(per_walk):
                line, schedule = usable(random_, name, place)
                expected = list(Reference(line).walk(walk))
                for _ in range(per_line):
                    # from the third day on: the walk must have seen what clocks that went back had shown
                    after = place - DAY + timedelta(seconds=random_.randint(0, 2 * 86_399))
                    due, due_there = schedule.next_after(after), first_after(expected, after)
                    right = due == due_there if due_there else due is None or due > walk.instants[-1]
                    assert right, f"seed {seed}: {line} in {name} after {after}: {due}, not {due_there}"
                    asked[name] += 1
                    inside += due_there is not None
    return asked, inside


@pytest.mark.slow
def test_cron_lines_agree_with_a_walk_in_every_zone() -> None:
    asked, inside = compare(2_000, per_walk=1, per_line=56, years=(2020, 2026), seed=random.randrange(10**9))
    assert asked.total() >= 2_000
    assert len(asked) == len(ZONES) >= 30
    assert inside > 500


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_cron_lines_agree_in_100_000_cases() -> None:
    asked, inside = compare(100_000, per_walk=10, per_line=20, years=(1985, 2037), seed=20261121)
    assert asked.total() >= 100_000
    print(f"\n{asked.total():,} cases in {len(asked)} zones, {inside:,} of them with a fire time near by: 0 mismatches")
