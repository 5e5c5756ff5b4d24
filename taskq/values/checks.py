"""Checks of what a caller gives, before anything is done with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

from taskq.errors import ConfigError

MAX_TASK_NAME = 500
_NOT_ARGUMENTS = (str, bytes, bytearray, Mapping, Set)


def check_text(value: object, what: str, most: int = MAX_TASK_NAME) -> str:
    """Return *value* if it is text that prints, with something in it.

    Raises:
        ConfigError: anything else, or longer than *most* characters.
    """
    if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable() or value.isspace():
        raise ConfigError(f"{what} must be 1 to {most} printable characters, not {shown(value)}")
    return value


def check_count(value: object, what: str, least: int = 0, most: int = 10_000) -> int:
    """Return *value* if it is a whole number from *least* to *most*.

    Raises:
        ConfigError: anything else.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigError(f"{what} must be a whole number from {least:,} to {most:,}, not {shown(value)}")
    return value


def check_flag(value: object, what: str) -> bool:
    """Return *value* if it is True or False; text such as "no" would count as True.

    Raises:
        ConfigError: anything else.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{what} must be True or False, not {shown(value)}")
    return value


def check_function(value: object, what: str) -> Callable[..., Any]:
    """Return *value* if it can be called.

    Raises:
        ConfigError: it cannot.
    """
    if not callable(value):
        raise ConfigError(f"{what} must be a function, not {shown(value)}")
    return value


def check_items(value: object, what: str) -> Iterable[Any]:
    """Return *value* if it gives items in an order of their own; text is one item, not many.

    Raises:
        ConfigError: anything else.
    """
    if isinstance(value, _NOT_ARGUMENTS) or not isinstance(value, Iterable):
        raise ConfigError(f"{what} must be a list or another iterable, not {shown(value)}")
    return value


def positional(value: object, what: str = "args") -> tuple[Any, ...]:
    """The positional arguments of a call.

    Raises:
        ConfigError: no sequence; text is one argument, so it stands in a list.
    """
    if type(value) is tuple:
        return value
    if isinstance(value, _NOT_ARGUMENTS) or not isinstance(value, Iterable):
        raise ConfigError(f"{what} must be a list or tuple of the arguments, such as [1, 2], not {shown(value)}")
    return tuple(value)


def named(value: object, what: str = "kwargs") -> dict[str, Any]:
    """The keyword arguments of a call; None is none.

    Raises:
        ConfigError: no mapping whose names are text.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{what} must be a mapping of names to arguments, such as {{'x': 1}}, not {shown(value)}")
    return dict(value)


def texts(value: object, what: str) -> Sequence[str]:
    """Return *value* as a sequence if it holds names; one name alone is a slip: it would be read letter by letter.

    Raises:
        ConfigError: anything else.
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ConfigError(f"{what} must be a list of text, such as ['a'], not {shown(value)}")
    found = tuple(value)
    if not all(isinstance(each, str) and each for each in found):
        raise ConfigError(f"{what} must be a list of text, such as ['a'], not {shown(value)}")
    return found


def shown(value: object) -> str:
    """*value* for an error text: short, whatever it is."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 400:
        return "a number of more than 100 digits"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:199]}…"
