"""Schedules: fire times, checked against a minute-by-minute walk that shares no code with them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cronwalk import Reference

from taskq.errors import ConfigError, ScheduleError
from taskq.values.schedule import Cron, Schedule, at, cron, crontab, every, fire_times

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fires(schedule: Schedule, after: str, until: str, limit: int = 1000) -> list[str]:
    """Fire times as short UTC texts."""
    found = fire_times(schedule, utc(after), utc(until), limit)
    assert all(when.tzinfo is UTC for when in found)
    return [when.strftime("%d %H:%M") for when in found]


# --- every ---


def test_every_fires_at_multiples_since_the_epoch() -> None:
    assert every("15m").next_after(utc("2024-05-01 10:07")) == utc("2024-05-01 10:15")
    assert every("15m").next_after(utc("2024-05-01 10:15")) == utc("2024-05-01 10:30")
    assert every("1d").next_after(utc("2024-05-01 10:15")) == utc("2024-05-02 00:00")


@settings(deadline=None)
@given(
    after=st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
    interval=st.timedeltas(timedelta(seconds=0.1), timedelta(days=400)),
)
def test_every_is_the_first_exact_multiple_after(after: datetime, interval: timedelta) -> None:
    due = every(interval).next_after(after)
    assert due is not None
    assert after < due <= after + interval
    assert (due - utc("1970-01-01")) % interval == timedelta(0)


def test_every_takes_any_zone_and_answers_in_utc() -> None:
    seoul = datetime(2024, 5, 1, 9, 30, tzinfo=ZoneInfo("Asia/Seoul"))
    assert every("1h").next_after(seoul) == utc("2024-05-01 01:00")


def test_every_ends_with_the_calendar() -> None:
    assert every("1d").next_after(datetime.max.replace(tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("interval", "spec"),
    [
        (30, "30s"),
        ("90s", "90s"),
        (0.5, "0.5s"),
        ("1500ms", "1.5s"),
        ("60m", "1h"),
        ("48h", "2d"),
        (timedelta(minutes=5), "5m"),
        (600, "10m"),
        (10, "10s"),
    ],
)
def test_every_describes_itself(interval: Any, spec: str) -> None:
    schedule = every(interval)
    assert schedule.spec == f"every {spec}"
    assert repr(schedule) == f"every('{spec}')"
    assert every(spec) == schedule


@pytest.mark.parametrize(
    "interval", [0, -1, 0.09, "0s", "soon", None, True, float("nan"), float("inf"), "36501d", 1e300]
)
def test_every_refuses_what_is_no_interval(interval: Any) -> None:
    with pytest.raises(ScheduleError, match="every"):
        every(interval)


# --- at ---


def test_at_fires_once() -> None:
    schedule = at(datetime(2024, 5, 1, 9, 0, tzinfo=ZoneInfo("Asia/Seoul")))
    assert schedule.next_after(utc("2024-04-30 23:59")) == utc("2024-05-01 00:00")
    assert schedule.next_after(utc("2024-05-01 00:00")) is None
    assert schedule.spec == "at 2024-05-01T00:00:00Z"


@pytest.mark.parametrize("when", [datetime(2024, 5, 1), "2024-05-01", None, 0])
def test_at_needs_an_instant(when: Any) -> None:
    with pytest.raises(ScheduleError):
        at(when)


# --- what all schedules share ---

ALL = [every("5m"), at(utc("2030-01-01")), cron("0 2 * * *"), crontab(hour=3, minute=0, tz="Europe/Berlin")]


@pytest.mark.parametrize("schedule", ALL, ids=str)
def test_a_naive_datetime_is_refused(schedule: Schedule) -> None:
    with pytest.raises(ScheduleError, match="time zone"):
        schedule.next_after(datetime(2024, 1, 1))
    with pytest.raises(ScheduleError, match="time zone"):
        fire_times(schedule, utc("2024-01-01"), datetime(2024, 1, 2), 1)


@pytest.mark.parametrize("schedule", ALL, ids=str)
def test_a_schedule_is_a_value(schedule: Schedule) -> None:
    assert isinstance(schedule, Schedule)
    copy = pickle.loads(pickle.dumps(schedule))
    assert (copy, hash(copy), repr(copy)) == (schedule, hash(schedule), repr(schedule))
    with pytest.raises((AttributeError, TypeError)):
        schedule.spec = "other"  # type: ignore[misc]


@pytest.mark.parametrize("schedule", [*ALL, crontab(0, 22, day_of_week="sat", day_of_month="1-7")], ids=str)
def test_the_repr_is_what_to_write(schedule: Schedule) -> None:
    names = {"cron": cron, "crontab": crontab, "every": every, "at": at, "datetime": datetime}
    assert eval(repr(schedule), names) == schedule


def test_fire_times_are_bounded() -> None:
    hourly = cron("@hourly")
    assert fires(hourly, "2024-01-01 00:00", "2024-01-01 03:00") == ["01 01:00", "01 02:00", "01 03:00"]
    assert fires(hourly, "2024-01-01 00:00", "2024-01-01 03:00", limit=2) == ["01 01:00", "01 02:00"]
    assert fires(hourly, "2024-01-01 00:00", "2024-01-01 03:00", limit=0) == []
    assert fires(hourly, "2024-01-01 03:00", "2024-01-01 00:00") == []


def test_croniter_is_imported_only_when_a_cron_line_is_read() -> None:
    code = (
        "import sys, taskq.values.schedule as s; s.every(5);"
        "assert 'croniter' not in sys.modules;"
        "s.cron('* * * * *'); assert 'croniter' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- cron lines ---


@pytest.mark.parametrize(
    ("line", "first"),
    [
        ("30 4 * * *", "2024-01-01 04:30"),
        ("*/7 * * * *", "2024-01-01 00:07"),
        ("0 9-17/4 * * *", "2024-01-01 09:00"),
        ("0 0 1,15 * *", "2024-01-15 00:00"),
        ("0 0 L * *", "2024-01-31 00:00"),
        ("0 0 29 2 *", "2024-02-29 00:00"),
        ("0 0 * * FRI", "2024-01-05 00:00"),
        ("0 0 * * 7", "2024-01-07 00:00"),
        ("0 0 * * 0", "2024-01-07 00:00"),
        ("0 0 * * fri#2", "2024-01-12 00:00"),
        ("0 0 * * L5", "2024-01-26 00:00"),
        ("0 0 1 mar-may *", "2024-03-01 00:00"),
        ("0 0 13 * 5", "2024-01-05 00:00"),
        ("0 5-5 * * *", "2024-01-01 05:00"),
        ("0 0 * * tue-tue", "2024-01-02 00:00"),
        ("  0   6\t* * *  ", "2024-01-01 06:00"),
        ("@hourly", "2024-01-01 01:00"),
        ("@daily", "2024-01-02 00:00"),
        ("@midnight", "2024-01-02 00:00"),
        ("@weekly", "2024-01-07 00:00"),
        ("@monthly", "2024-02-01 00:00"),
        ("@Yearly", "2025-01-01 00:00"),
        ("@annually", "2025-01-01 00:00"),
    ],
)
def test_a_cron_line_is_understood(line: str, first: str) -> None:
    assert cron(line).next_after(utc("2024-01-01 00:00")) == utc(first)


def test_a_range_of_one_value_is_that_value() -> None:
    assert fires(cron("0 5-5 * * *"), "2024-01-01", "2024-01-03") == ["01 05:00", "02 05:00"]


def test_six_fields_start_with_the_second() -> None:
    found = fire_times(cron("*/20 5 * * * *"), utc("2024-01-01 00:00"), utc("2024-01-01 01:00"), 9)
    assert [when.strftime("%H:%M:%S") for when in found] == ["00:05:00", "00:05:20", "00:05:40"]


def test_fractions_of_a_second_count() -> None:
    just_before = utc("2024-01-01 02:00") - timedelta(microseconds=1)
    assert cron("0 2 * * *").next_after(just_before) == utc("2024-01-01 02:00")
    assert cron("0 2 * * *").next_after(utc("2024-01-01 02:00")) == utc("2024-01-02 02:00")
    assert cron("* * * * * *").next_after(just_before) == utc("2024-01-01 02:00")


def test_a_cron_line_has_a_zone() -> None:
    assert cron("0 2 * * *", "Asia/Seoul").next_after(utc("2024-01-01")) == utc("2024-01-01 17:00")
    fixed = timezone(timedelta(hours=-3))
    assert cron("0 2 * * *", fixed).next_after(utc("2024-01-01")) == utc("2024-01-01 05:00")


def test_a_cron_line_describes_itself() -> None:
    assert cron("0 2 * * *", "Asia/Seoul").spec == "cron 0 2 * * * Asia/Seoul"
    assert cron(" @daily ").spec == "cron @daily UTC"
    assert repr(cron("0  2 * * *", "Asia/Seoul")) == "cron('0 2 * * *', tz='Asia/Seoul')"
    assert crontab(0, 22, day_of_week="sat", day_of_month="1-7").spec == "cron 0 22 1-7 * sat (both days) UTC"


@pytest.mark.parametrize("tz", ["UTC", "Etc/UTC", UTC, ZoneInfo("UTC")])
def test_utc_is_utc_however_it_is_written(tz: str | tzinfo | None) -> None:
    assert cron("0 2 * * *", tz) == cron("0 2 * * *", "UTC")
    assert cron("0 2 * * *", tz).spec == cron("0 2 * * *").spec


def test_zones_of_one_name_are_equal() -> None:
    assert cron("0 2 * * *", "Asia/Seoul") == cron("0 2 * * *", ZoneInfo.no_cache("Asia/Seoul"))


def test_a_line_ends_with_the_calendar() -> None:
    for line in ("0 2 * * *", "* * * * *"):
        for tz in ("UTC", "Asia/Seoul", "America/New_York"):
            assert cron(line, tz).next_after(datetime.max.replace(tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields"),
        ("* * * * * * *", "has 7 fields"),
        ("60 * * * *", "minute '60' cannot be read; write 0-59"),
        ("0 24 * * *", "hour '24'"),
        ("0 0 32 * *", "day of month '32'"),
        ("0 0 0 * *", "day of month '0'"),
        ("0 0 * 13 *", "month '13'"),
        ("0 0 * * 8", "day of week '8'"),
        ("0 0 * * mon#6", "day of week 'mon#6'"),
        ("61 * * * * *", "second '61'"),
        ("0 61 * * * *", "minute '61'"),
        ("x * * * *", "minute 'x'"),
        ("-1 * * * *", "minute '-1'"),
        ("1.5 * * * *", "minute '1.5'"),
        ("*/0 * * * *", "minute"),
        ("*/90 * * * *", "a step of 90 is longer than 0-59; write 0 for once, or every(...)"),
        ("0 */25 * * *", "a step of 25 is longer than 0-23"),
        ("0 0 */31 * *", "a step of 31 is longer than 1-31; write 1 for once"),
        ("5/15 * * * *", "a step needs a range; write 5-59/15"),
        ("0 0 * * 5-1", "the range '5-1' runs backwards; write 5-7,0-1"),
        ("0 0 * * fri-mon", "the range 'fri-mon' runs backwards; write 5-7,0-1"),
        ("0 0 * * 5-0", "the range '5-0' runs backwards; write 5-7"),
        ("0 22-2 * * *", "the range '22-2' runs backwards; write 22-23,0-2"),
        ("0 0 1 nov-feb *", "write 11-12,1-2"),
        ("? * * * *", "minute '?'"),
        ("0 0 L-2 * *", "day of month 'L-2'"),
        ("0 0 * * L", "day of week 'L' cannot be read; write 0-7 (0 and 7 are Sunday), sun-sat, fri#2 or L5"),
        ("0 0 * * 5L", "day of week '5L'"),
        ("0 0 * * 5#6", "day of week '5#6'"),
        ("0 0 * * 1,fri#2", "do not go together"),
        ("1,, * * * *", "minute"),
        ("0 noon * * *", "hour 'noon'"),
        ("H 2 * * *", "minute 'H'"),
        ("r 2 * * *", "minute 'r'"),
        ("0 R(0-5) * * *", "hour"),
        ("@reboot", "@reboot"),
        ("@every 5m", "use every"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 31 4,6,9,11 *", "never fires"),
        (None, "text such as"),
        (5, "text such as"),
        (b"* * * * *", "text such as"),
    ],
)
def test_a_bad_line_is_explained(line: Any, complaint: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        cron(line)
    assert complaint in str(caught.value)
    assert isinstance(caught.value, ConfigError)


def nights(line: str, first: str = "2026-08-01", last: str = "2026-09-30") -> list[str]:
    """The days on which it fires at midnight."""
    return [due.strftime("%a %d") for due in fire_times(cron(line), utc(first) - timedelta(seconds=1), utc(last), 99)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # Vixie cron and cronie: both days must match where one of the fields starts with a star
        ("0 0 */2 * 1", ["Mon 03", "Mon 17", "Mon 31", "Mon 07", "Mon 21"]),
        ("0 0 1 * */2", ["Sat 01", "Tue 01"]),
        ("0 0 *,1 * 1", ["Mon 03", "Mon 10", "Mon 17", "Mon 24", "Mon 31", "Mon 07", "Mon 14", "Mon 21", "Mon 28"]),
        ("0 0 */15 * */2", ["Sat 01", "Sun 16", "Tue 01"]),
        # else one of them
        ("0 0 1,15 8 1", ["Sat 01", "Mon 03", "Mon 10", "Sat 15", "Mon 17", "Mon 24", "Mon 31"]),
        ("0 0 ? * 1#1", ["Mon 03", "Mon 07"]),
        ("0 0 15 * ?", ["Sat 15", "Tue 15"]),
        (
            "0 0 1-7 9 7",
            ["Tue 01", "Wed 02", "Thu 03", "Fri 04", "Sat 05", "Sun 06", "Mon 07", "Sun 13", "Sun 20", "Sun 27"],
        ),
        ("0 0 */2 9 sat-sun", ["Sat 05", "Sun 13", "Sat 19", "Sun 27"]),
        (
            "0 0 * 9 0-7/3",
            [
                "Wed 02",
                "Sat 05",
                "Sun 06",
                "Wed 09",
                "Sat 12",
                "Sun 13",
                "Wed 16",
                "Sat 19",
                "Sun 20",
                "Wed 23",
                "Sat 26",
                "Sun 27",
                "Wed 30",
            ],
        ),
        ("0 0 L * *", ["Mon 31", "Wed 30"]),
        ("0 0 1W * *", ["Mon 03", "Tue 01"]),
        ("0 0 * * L7", ["Sun 30", "Sun 27"]),
        ("0 0 * AUG Mon#2", ["Mon 10"]),
        ("@weekly", ["Sun 02", "Sun 09", "Sun 16", "Sun 23", "Sun 30", "Sun 06", "Sun 13", "Sun 20", "Sun 27"]),
    ],
)
def test_days_are_those_of_cron(line: str, expected: list[str]) -> None:
    assert nights(line) == expected


def test_six_fields_begin_with_the_second() -> None:
    every_two_seconds = cron("*/2 * * * * *")
    assert every_two_seconds.next_after(utc("2026-08-03 10:00:01")) == utc("2026-08-03 10:00:02")
    assert cron("30 15 10 * * 1").next_after(utc("2026-08-03")) == utc("2026-08-03 10:15:30")


def spans(least: int, most: int) -> st.SearchStrategy[str]:
    """A part of a plain field: a number, a range, or one of them with a step."""

    def span(first: int, length: int, step: int) -> str:
        last = min(first + length, most)
        return f"{first}" if not length else f"{first}-{last}" if step == 1 else f"{first}-{last}/{step}"

    plain = st.builds(span, st.integers(least, most), st.integers(0, most - least), st.integers(1, 9))
    return st.one_of(plain, st.builds("*/{}".format, st.integers(1, 6)), st.just("*"))


def fields(least: int, most: int) -> st.SearchStrategy[str]:
    return st.lists(spans(least, most), min_size=1, max_size=3).map(",".join)


@given(day=fields(1, 31), month=fields(1, 12), weekday=fields(0, 7), year=st.integers(2020, 2032))
def test_drawn_days_are_those_of_an_independent_reference(day: str, month: str, weekday: str, year: int) -> None:
    line = f"0 0 {day} {month} {weekday}"
    try:
        schedule = cron(line)
    except ScheduleError as error:
        assert "never fires" in str(error)  # noqa: PT017
        return
    begin, reference = datetime(year, 1, 1, tzinfo=UTC), Reference(line)
    dates = [begin + timedelta(days=n) for n in range(365)]
    expected = [date for date in dates if reference.matches(date)]
    assert fire_times(schedule, begin - timedelta(seconds=1), dates[-1], 400) == expected


def test_a_bad_line_is_refused_by_the_class_too() -> None:
    with pytest.raises(ScheduleError):
        Cron("61 * * * *")


@settings(deadline=None)
@given(st.text(st.sampled_from("0159*/-,#LWlw?hr @monjan.\u00b2\u0665\u3000"), max_size=14))
def test_garbage_is_a_schedule_error_or_a_schedule_that_fires(line: str) -> None:
    try:
        schedule = cron(line)
    except ScheduleError:
        return
    assert schedule.next_after(utc("2024-01-01")) is not None


@settings(deadline=None)
@given(st.lists(st.text("0159*/-,#LWa", min_size=1, max_size=4), min_size=5, max_size=6))
def test_five_garbage_fields_are_no_other_error_either(fields: list[str]) -> None:
    try:
        schedule = cron(" ".join(fields))
    except ScheduleError:
        return
    assert schedule.next_after(utc("2024-01-01")) is not None


@pytest.mark.parametrize(
    ("tz", "complaint"),
    [
        ("Asia/Soul", "did you mean 'Asia/Seoul'"),
        ("", "unknown time zone"),
        ("../etc/passwd", "unknown time zone"),
        ("Europe", "unknown time zone"),
        ("/", "unknown time zone"),
        ("a\0b", "unknown time zone"),
        (9, "write a name"),
        (timedelta(hours=9), "write a name"),
    ],
)
def test_an_unknown_zone_is_explained(tz: Any, complaint: str) -> None:
    with pytest.raises(ScheduleError, match=complaint):
        cron("0 2 * * *", tz)


# --- crontab ---


@pytest.mark.parametrize(
    ("schedule", "line"),
    [
        (crontab(), "* * * * *"),
        (crontab(0, "*/3"), "0 */3 * * *"),
        # Celery's order of arguments: the day of the week is the third
        (crontab(30, 7, 1), "30 7 * * 1"),
        (crontab("0", "2", "mon", "*", "1,6"), "0 2 * 1,6 mon"),
        (crontab(0, [8, 20], {"sat", "sun"}), "0 8,20 * * sat,sun"),
        # Celery's ranges may run over the end
        (crontab(0, 0, "fri-mon"), "0 0 * * 5,6,0,1"),
        (crontab(0, "22-2/2"), "0 22,0,2 * * *"),
        (crontab(0, 0, month_of_year="nov-feb"), "0 0 * 11,12,1,2 *"),
        (crontab(minute={30, 0, 9}, hour=range(8, 11)), "0,9,30 8,9,10 * * *"),
        (crontab(minute=0, hour=0, day_of_week="mon-fri"), "0 0 * * mon-fri"),
        (crontab(minute=0, hour=0, day_of_week="Thursday, sunday"), "0 0 * * Thu,sun"),
        (crontab(minute="0", hour="0", day_of_month="2-30/2"), "0 0 2-30/2 * *"),
        (crontab(minute=0, hour=0, day_of_month=1, month_of_year=["january", 7]), "0 0 1 7,jan *"),
    ],
)
def test_crontab_is_a_cron_line(schedule: Cron, line: str) -> None:
    assert schedule == cron(line)


def test_crontab_asks_for_both_days_as_celery_does() -> None:
    first_saturday = crontab(0, 22, day_of_week="sat", day_of_month="1-7")
    assert fires(first_saturday, "2024-01-01", "2024-03-31") == ["06 22:00", "03 22:00", "02 22:00"]
    assert fires(cron("0 22 1-7 * sat"), "2024-02-01", "2024-02-06") == [
        "01 22:00",
        "02 22:00",
        "03 22:00",
        "04 22:00",
        "05 22:00",
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"minute": 60},
        {"minute": ""},
        {"minute": []},
        {"hour": None},
        {"hour": True},
        {"hour": 2.0},
        {"day_of_week": "someday"},
        {"day_of_month": [1, None]},
        {"day_of_month": 31, "month_of_year": 2},
        {"day_of_month": 31, "month_of_year": 4, "day_of_week": "mon"},
        {"month_of_year": 0},
        {"tz": "Mars/Olympus"},
    ],
)
def test_a_bad_crontab_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ScheduleError):
        crontab(**fields)


# --- clocks that change ---


@pytest.mark.parametrize(
    ("line", "tz", "after", "until", "expected"),
    [
        # Berlin, 31 March 2024: 02:00 CET becomes 03:00 CEST at 01:00 UTC
        ("30 2 * * *", "Europe/Berlin", "2024-03-30", "2024-04-02", ["30 01:30", "31 01:00", "01 00:30"]),
        ("*/20 2 * * *", "Europe/Berlin", "2024-03-30 12:00", "2024-03-31 12:00", ["31 01:00"]),
        ("0 2,3 * * *", "Europe/Berlin", "2024-03-31", "2024-03-31 12:00", ["31 01:00"]),
        ("30 * * * *", "Europe/Berlin", "2024-03-31", "2024-03-31 02:00", ["31 00:30", "31 01:30"]),
        ("0 */2 * * *", "Europe/Berlin", "2024-03-30 23:30", "2024-03-31 04:00", ["31 02:00", "31 04:00"]),
        # Berlin, 27 October 2024: 03:00 CEST becomes 02:00 CET at 01:00 UTC
        ("30 2 * * *", "Europe/Berlin", "2024-10-26 12:00", "2024-10-28 12:00", ["27 00:30", "28 01:30"]),
        (
            "30 * * * *",
            "Europe/Berlin",
            "2024-10-27",
            "2024-10-27 03:00",
            ["27 00:30", "27 01:30", "27 02:30"],
        ),
        ("30 2-3 * * *", "Europe/Berlin", "2024-10-27", "2024-10-27 12:00", ["27 00:30", "27 02:30"]),
        # Lord Howe, 7 April 2024: the clock goes back half an hour, from 02:00 to 01:30, at 15:00 UTC
        ("45 1 * * *", "Australia/Lord_Howe", "2024-04-06 12:00", "2024-04-07 12:00", ["06 14:45"]),
        (
            "45 * * * *",
            "Australia/Lord_Howe",
            "2024-04-06 14:00",
            "2024-04-06 16:00",
            ["06 14:45", "06 15:15"],
        ),
        # Cairo, 26 April 2024: midnight does not exist
        ("0 0 * * *", "Africa/Cairo", "2024-04-24 23:00", "2024-04-26 22:00", ["25 22:00", "26 21:00"]),
        # Apia, 30 December 2011: the whole day does not exist; it would have begun at 10:00 UTC
        ("0 9 * * *", "Pacific/Apia", "2011-12-29", "2011-12-31", ["29 19:00", "30 10:00", "30 19:00"]),
        ("0 9 30 12 *", "Pacific/Apia", "2011-12-01", "2011-12-31", ["30 10:00"]),
        (
            "0 */12 * * *",
            "Pacific/Apia",
            "2011-12-29 12:00",
            "2011-12-31",
            ["29 22:00", "30 10:00", "30 22:00"],
        ),
    ],
)
def test_clock_changes(line: str, tz: str, after: str, until: str, expected: list[str]) -> None:
    assert fires(cron(line, tz), after, until) == expected


def test_a_repeated_time_does_not_ring_again_for_a_question_asked_in_the_second_pass() -> None:
    berlin = cron("30 2 * * *", "Europe/Berlin")
    for after in ("2024-10-27 00:30", "2024-10-27 01:00", "2024-10-27 01:15", "2024-10-27 01:30"):
        assert berlin.next_after(utc(after)) == utc("2024-10-28 01:30")


def test_a_repeated_day_rings_once() -> None:
    # Kwajalein moved across the date line: at 13:00 UTC its clock went back 23 hours, to 01:00 of that day
    kwajalein = cron("0 6,23 * * *", "Pacific/Kwajalein")
    for after in ("1969-09-30 13:00", "1969-09-30 20:00", "1969-10-01 09:00"):
        assert kwajalein.next_after(utc(after)) == utc("1969-10-01 18:00"), after


CHANGES = [
    ("Europe/Berlin", "2024-03-31 01:00"),
    ("Europe/Berlin", "2024-10-27 01:00"),
    ("America/New_York", "2024-03-10 07:00"),
    ("America/New_York", "2024-11-03 06:00"),
    ("America/Santiago", "2024-04-07 03:00"),
    ("America/Santiago", "2024-09-08 04:00"),
    ("America/St_Johns", "2010-11-07 02:31"),
    ("Australia/Lord_Howe", "2024-04-06 15:00"),
    ("Australia/Lord_Howe", "2024-10-05 15:30"),
    ("Africa/Cairo", "2024-04-25 22:00"),
    ("Africa/Cairo", "2024-10-31 21:00"),
    ("Africa/Casablanca", "2024-03-10 02:00"),
    ("Africa/Casablanca", "2024-04-14 02:00"),
    ("Antarctica/Troll", "2024-03-31 01:00"),
    ("Antarctica/Troll", "2024-10-27 01:00"),
    ("Asia/Seoul", "1988-05-07 17:00"),
    ("Asia/Seoul", "1988-10-08 17:00"),
    ("Asia/Seoul", "2024-03-31 00:00"),
    ("Asia/Pyongyang", "2015-08-14 15:00"),
    ("Asia/Pyongyang", "2018-05-04 15:00"),
    ("Pacific/Apia", "2011-12-30 10:00"),
    ("Pacific/Apia", "2012-03-31 14:00"),
    ("Pacific/Kwajalein", "1969-09-30 13:00"),
    ("Pacific/Kwajalein", "1993-08-21 12:00"),
    ("UTC", "2024-02-29 00:00"),
]

MINUTES = st.sampled_from(["0", "30", "59", "*", "*/7", "*/20", "15,45", "0-10/5", "1-3"])
HOURS = st.sampled_from(["*", "*/2", "*/3", "0", "1", "2", "3", "23", "0-4", "1,2,3", "0-23", "22-23", "0-23/2"])
DAYS = st.sampled_from(["*", "*", "*", "1", "7,8", "30", "31", "25-31"])
MONTHS = st.sampled_from(["*", "*", "3,4", "9-12"])
WEEKDAYS = st.sampled_from(["*", "*", "*", "0", "1-5", "6"])


@settings(max_examples=150, deadline=None)
@given(
    change=st.sampled_from(CHANGES),
    fields=st.tuples(MINUTES, HOURS, DAYS, MONTHS, WEEKDAYS),
    before=st.integers(-30 * 60, 40 * 60),
    length=st.integers(1, 48 * 60),
)
def test_cron_agrees_with_a_walk_through_real_time(
    change: tuple[str, str], fields: tuple[str, ...], before: int, length: int
) -> None:
    tz, instant = change
    line = " ".join(fields)
    try:
        schedule = cron(line, tz)
    except ScheduleError as error:
        assert "never fires" in str(error)  # noqa: PT017 - some mixtures have no date
        return
    after = utc(instant) - before * MINUTE
    until = after + length * MINUTE
    expected = list(Reference(line).fire_times(ZoneInfo(tz), after, until))
    assert fire_times(schedule, after, until, 10_000) == expected


@pytest.mark.parametrize(("tz", "instant"), CHANGES)
@pytest.mark.parametrize("line", ["*/30 * * * *", "17 0-3,23 * * *", "0,30 9 * * *"])
def test_the_walk_agrees_at_every_change(tz: str, instant: str, line: str) -> None:
    after, until = utc(instant) - DAY, utc(instant) + DAY
    expected = list(Reference(line).fire_times(ZoneInfo(tz), after, until))
    assert expected
    assert fire_times(cron(line, tz), after, until, 10_000) == expected


def test_the_listed_changes_are_changes() -> None:
    for tz, instant in CHANGES:
        zone, when = ZoneInfo(tz), utc(instant)
        changed = when.astimezone(zone).utcoffset() != (when - MINUTE).astimezone(zone).utcoffset()
        assert changed or (tz, instant) in {
            ("UTC", "2024-02-29 00:00"),
            ("Asia/Seoul", "2024-03-31 00:00"),
        }, tz


@settings(deadline=None)
@given(
    tz=st.sampled_from(sorted({tz for tz, _ in CHANGES})),
    after=st.datetimes(datetime(1975, 1, 1), datetime(2080, 1, 1), timezones=st.just(UTC)),
    line=st.sampled_from(["0 3 29 2 *", "0 0 1 1 *", "59 23 31 12 *", "0 * 1 7 *", "30 2 1-7 3 *"]),
)
def test_distant_fire_times_match_the_line(tz: str, after: datetime, line: str) -> None:
    due = cron(line, tz).next_after(after)
    assert due is not None
    assert due > after
    zone = ZoneInfo(tz)
    now, earlier = due.astimezone(zone), (due - MINUTE).astimezone(zone)
    assert Reference(line).matches(now.replace(tzinfo=None)) or now.utcoffset() != earlier.utcoffset()
    assert cron(line, tz).next_after(due - timedelta(seconds=1)) == due
