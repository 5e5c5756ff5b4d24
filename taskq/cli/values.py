"""What is written on a command line, as values: times, durations, JSON."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import click

from taskq.errors import ConfigError
from taskq.values.durations import seconds


def instant(text: str) -> datetime:
    """A point in time, in UTC where the text names no zone.

    Raises:
        click.BadParameter: it is none.
    """
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a time: write 2026-11-01T02:00 or 2026-11-01T02:00+09:00") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def instant_value(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """For ``callback=`` of an option that takes a time."""
    return None if value is None else instant(value)


def duration_value(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """For ``callback=`` of an option that takes a duration: seconds, or such as ``5m``."""
    if value is None:
        return None
    try:
        return seconds(value)
    except ConfigError:
        raise click.BadParameter(f"{value!r} is not a duration: write seconds, or 90s, 5m, 1h, 7d") from None


def duration_or_instant_value(_: click.Context, __: click.Parameter, value: str | None) -> float | datetime | None:
    """For ``callback=`` of an option that takes either."""
    if value is None:
        return None
    with contextlib.suppress(ConfigError):
        return seconds(value)
    return instant(value)


def json_value(text: str | None, option: str, kind: type[Any]) -> Any:
    """The JSON array (*kind* is list) or object (dict) that *option* was given; None without it.

    Raises:
        click.BadParameter: something else.
    """
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"{option} is not JSON: {error}") from None
    if not isinstance(value, kind):
        raise click.BadParameter(f"{option} must be a JSON {'array' if kind is list else 'object'}")
    return value
