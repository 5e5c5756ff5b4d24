"""Durations as users write them."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq.errors import ConfigError
from taskq.values.durations import milliseconds, seconds


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0.0),
        (90, 90.0),
        (1.5, 1.5),
        (timedelta(minutes=2), 120.0),
        ("90", 90.0),
        ("90s", 90.0),
        ("250ms", 0.25),
        ("1.5h", 5400.0),
        ("5m", 300.0),
        ("7d", 604800.0),
        ("2w", 1209600.0),
        ("  3  h ", 10800.0),
    ],
)
def test_seconds(value: Any, expected: float) -> None:
    assert seconds(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "-1s",
        "5 minutes",
        "1h30m",
        "1e3",
        "5M",
        ".5s",
        "1\n2",
        "9" * 400,
        -1,
        -0.1,
        math.nan,
        math.inf,
        1e308,
        10**400,
        timedelta(seconds=-1),
        None,
        True,
        False,
        [1],
        b"5s",
    ],
)
@pytest.mark.parametrize("read", [seconds, milliseconds])
def test_what_is_no_duration_is_refused_by_name(value: Any, read: Any) -> None:
    with pytest.raises(ConfigError, match=r"^time_limit: "):
        read(value, "time_limit")


@given(st.integers(0, 876_000), st.sampled_from([("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)]))
def test_text_and_number_mean_the_same(number: int, unit: tuple[str, int]) -> None:
    name, length = unit
    assert milliseconds(f"{number}{name}") == number * length


@given(st.timedeltas(timedelta(0), timedelta(days=36500)))
def test_milliseconds_are_rounded_but_never_to_zero(value: timedelta) -> None:
    found = milliseconds(value)
    assert abs(found - value / timedelta(milliseconds=1)) <= 1
    assert (found == 0) == (value == timedelta(0))


def test_the_shortest_duration_is_one_millisecond() -> None:
    assert milliseconds(0.0001) == milliseconds(timedelta(microseconds=1)) == 1
    assert milliseconds(0) == 0
