"""What values become on the wire, and what is said of those that change."""

from __future__ import annotations

import dataclasses
import enum
import numbers
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest

from taskq import TaskQ
from taskq.errors import SerializationError
from taskq.values.serialization import dumps, loads


class Text(str):
    def __str__(self) -> str:
        return "not the value"


class Count(int): ...


class Share(float): ...


class Raw(bytes): ...


class Moment(datetime): ...


class Kind(enum.StrEnum):
    A = "a"


class Level(enum.IntEnum):
    LOW = 1


class Foreign:
    """A whole number as numpy has them: registered as one, no subclass of int."""

    def __int__(self) -> int:
        return 5


numbers.Integral.register(Foreign)


class Single:
    """The same of numpy's floats that are no subclass of float."""

    def __float__(self) -> float:
        return 0.5


numbers.Real.register(Single)

SEOUL = timezone(timedelta(hours=9))


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        (Text("x"), "x"),
        (Count(3), 3),
        (Share(0.5), 0.5),
        (Raw(b"x"), b"x"),
        (Foreign(), 5),
        (Single(), 0.5),
        (Kind.A, "a"),
        (Level.LOW, 1),
        (Moment(2026, 1, 2, 3, tzinfo=UTC), datetime(2026, 1, 2, 3, tzinfo=UTC)),
        ([{Text("k"): [Text("v")]}], [{"k": ["v"]}]),
        ({Count(1): 1}, {1: 1}),
    ],
)
def test_subclasses_are_sent_as_their_value(sent: Any, arrives: Any) -> None:
    found = loads(dumps(sent))
    assert (found, type(found)) == (arrives, type(arrives))


def test_an_aware_datetime_arrives_as_the_same_instant_in_utc() -> None:
    sent = datetime(2026, 1, 2, 3, tzinfo=SEOUL)
    found = loads(dumps(sent))
    assert (found, found.tzinfo) == (sent, UTC)


@pytest.mark.parametrize("value", [Fraction(1, 3), object(), 2**70, Count(2**70)])
def test_what_would_lose_something_is_refused(value: Any) -> None:
    with pytest.raises(SerializationError):
        dumps(value)


@dataclasses.dataclass
class Order:
    id: int


CHANGES = [
    ((1, 2), "tuple", "list"),
    ({1}, "set", "list"),
    (frozenset({1}), "frozenset", "list"),
    (Decimal(1), "Decimal", "text"),
    (UUID(int=1), "UUID", "text"),
    (date(2026, 1, 1), "date", "text"),
    (time(1), "time", "text"),
    (timedelta(1), "timedelta", "text"),
    (datetime(2026, 1, 1), "datetime", "text, as it has no time zone"),
    (Order(1), "Order", "dict"),
    (bytearray(b"x"), "bytearray", "bytes"),
]


@pytest.mark.parametrize(("value", "kind", "arrives"), CHANGES, ids=lambda each: each if isinstance(each, str) else "")
def test_a_change_of_type_is_said_once(value: Any, kind: str, arrives: str, caplog: pytest.LogCaptureFixture) -> None:
    task = TaskQ("test").task(name="t")(lambda *args, **named: None)
    for _ in range(3):
        task.prepared({"deep": [value]})
        task.prepared(named=value)
    assert [message.partition(", ")[0] for message in caplog.messages] == [
        f"t: an argument of type {kind} arrives as {arrives.partition(', ')[0]}"
    ]


def test_nothing_is_said_of_what_stays_the_same_and_later_calls_are_not_looked_at(
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = TaskQ("test").task(name="t")(lambda *args: None)
    watched = task._check
    for _ in range(100):
        task.prepared(1, "x", 0.5, None, True, b"x", [1], {"a": [Text("x")]}, datetime.now(UTC), Level.LOW, Kind.A)
    assert not caplog.messages
    assert task._check is not watched
