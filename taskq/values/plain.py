"""Plain data: what values become on their way through Redis, and which of them change their type there."""

from __future__ import annotations

import dataclasses
import datetime
import numbers
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

_PLAIN = frozenset({type(None), bool, int, float, str, bytes})
_MOST_LOOKED_AT = 20
"""Items of each list or dict that are looked at."""
_DEEPEST = 4

_BASES: tuple[tuple[type, Callable[[Any], object]], ...] = (
    (str, str.__str__),
    (int, int.__index__),
    (float, float.__float__),
    (bytes, lambda value: bytes(memoryview(value))),
    (datetime.datetime, lambda value: datetime.datetime.combine(value.date(), value.time(), value.tzinfo)),
    (numbers.Integral, int),
    (numbers.Real, float),
)
"""Classes whose subclasses are sent as their value: of text, numbers (numpy's among them), bytes and datetimes."""


def base_value(value: object) -> object | None:
    """The plain value of an object of a subclass of text, a number, bytes or a datetime; None for anything else."""
    if isinstance(value, numbers.Rational) and not isinstance(value, numbers.Integral):
        return None  # a fraction would lose digits
    return next((plain(value) for kind, plain in _BASES if isinstance(value, kind)), None)


def changes(value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    """The types in *value* that arrive as another one, and as what; only the first items of what is large."""
    kind = type(value)
    if kind in _PLAIN:
        return
    if kind is list or kind is dict:
        if depth < _DEEPEST:
            items = value if kind is list else [item for pair in value.items() for item in pair]
            for item in items[:_MOST_LOOKED_AT]:
                yield from changes(item, depth + 1)
        return
    arrives = _arrives_as(value)
    if arrives is not None:
        yield kind.__name__, arrives
    elif isinstance(value, (list, Mapping)) and depth < _DEEPEST:
        yield from changes(list(value) if isinstance(value, list) else dict(value), depth + 1)


def _arrives_as(value: Any) -> str | None:
    if isinstance(value, Enum):
        return None if isinstance(value, (str, int)) else "its value"
    if isinstance(value, datetime.datetime):
        return "text, as it has no time zone" if value.tzinfo is None else None
    if isinstance(value, (datetime.date, datetime.time, datetime.timedelta, Decimal, UUID)):
        return "text"
    if isinstance(value, (tuple, set, frozenset)):
        return "list"
    if isinstance(value, (bytearray, memoryview)):
        return "bytes"
    if dataclasses.is_dataclass(value) or isinstance(value, msgspec.Struct) or hasattr(value, "__attrs_attrs__"):
        return "dict"
    return None
