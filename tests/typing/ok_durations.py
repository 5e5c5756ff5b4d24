"""Durations, as a user writes them."""

from datetime import timedelta
from typing import assert_type

from taskq.values.durations import Duration, milliseconds, seconds

minute: Duration = "1m"

assert_type(seconds(minute), float)
assert_type(seconds(timedelta(minutes=1)), float)
assert_type(milliseconds(0.5, "poll interval"), int)
