"""Values to bytes and back."""

from __future__ import annotations

import enum
import math
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq.errors import DecodeError, SerializationError
from taskq.values.secret import Secret
from taskq.values.serialization import dumps, loads, to_json

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.just(UTC))
)
PLAIN = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(PLAIN)
def test_plain_data_survives(value: Any) -> None:
    assert loads(dumps(value)) == value


def test_nan_survives() -> None:
    assert math.isnan(loads(dumps(math.nan)))


def test_an_aware_datetime_stays_the_same_instant() -> None:
    there = datetime(2024, 5, 1, 9, tzinfo=timezone(timedelta(hours=9)))
    back = loads(dumps(there))
    assert (back, back.tzinfo) == (there, UTC)


@dataclass
class Point:
    x: int
    y: int


class Pair(msgspec.Struct):
    left: int
    right: int


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        ((1, 2), [1, 2]),
        ({3}, [3]),
        (Point(1, 2), {"x": 1, "y": 2}),
        (Pair(1, 2), {"left": 1, "right": 2}),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.50"), "1.50"),
        (Colour.RED, "red"),
        (date(2024, 5, 1), "2024-05-01"),
        (time(9, 30), "09:30:00"),
        (datetime(2024, 5, 1, 9), "2024-05-01T09:00:00"),
        (bytearray(b"x"), b"x"),
    ],
)
def test_other_types_arrive_as_plain_data(value: Any, arrives: Any) -> None:
    assert loads(dumps(value)) == arrives


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [object(), Point, 1j, range(3), ValueError("x"), 2**64, -(2**63) - 1, "\ud800", endless(), print],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_wire_form_is_refused(value: Any) -> None:
    with pytest.raises(SerializationError, match=r"^the result of f cannot be serialized: .*Pass plain data"):
        dumps({"deep": [value]}, "the result of f")


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x92\x01", b"\x01\x01", b"\xa1\xff", b"\x91" * 100_000, b"\x81\x80\x01"],
    ids=["empty", "reserved", "cut", "trailing", "not utf-8", "deep", "unhashable key"],
)
def test_what_is_not_messagepack_is_kept_in_the_error(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        loads(data)
    assert caught.value.data == data


@given(st.binary(max_size=40))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    try:
        loads(data)
    except DecodeError as error:
        kept = error.data
    else:
        kept = data
    assert kept == data


def test_json_for_the_eye_has_whatever_comes() -> None:
    assert to_json({"a": {1: b"x", None: (Secret("s"),)}}) == '{"a": {"1": "b\'x\'", "null": ["***"]}}'
    keys = {b"x": 1, (1, 2): {Secret("s"): [{b"y": None}]}}
    assert to_json(keys) == """{"b'x'": 1, "(1, 2)": {"***": [{"b'y'": null}]}}"""
