"""Arguments as JSON that a person can edit, and back: nothing is lost but what the person changes."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from taskq.errors import ConfigError
from taskq.values.message import Message
from taskq.values.redaction import redact, redact_args, restore

DATETIME, BYTES = "$datetime", "$bytes"
MOST = 200_000
"""Characters of JSON that a form carries."""


def to_text(message: Message, names: Sequence[str]) -> str:
    """The arguments of *message* as JSON, redacted; *names* are those of its positional parameters.

    Raises:
        ConfigError: they are too large for a form, or cannot be written so.
    """
    shown = {"args": redact_args(message.args, names), "kwargs": redact(message.kwargs)}
    try:
        text = json.dumps(_plain(shown), indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"these arguments cannot be edited here: {error}") from error
    if len(text) > MOST:
        raise ConfigError(f"these arguments have {len(text):,} characters, too many to edit here")
    return text


def from_text(text: str, message: Message) -> tuple[list[Any], dict[str, Any]]:
    """The arguments in *text*, with what was redacted and left alone as it is in *message*.

    Raises:
        ConfigError: it is no such JSON; the text says where.
    """
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"that is not JSON: {error}") from error
    right = isinstance(given, dict) and set(given) == {"args", "kwargs"}
    if not right or not isinstance(given["args"], list) or not isinstance(given["kwargs"], dict):
        raise ConfigError('write {"args": [...], "kwargs": {...}}')
    try:
        edited = _rich(given)
        return restore(edited["args"], message.args, "args"), restore(edited["kwargs"], message.kwargs, "kwargs")
    except (ValueError, TypeError, RecursionError) as error:  # such as a $datetime that is a number
        raise ConfigError(str(error)) from error


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return {DATETIME: value.isoformat()}
    if isinstance(value, bytes):
        return {BYTES: base64.b64encode(value).decode()}
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("a mapping in them has keys that are no text")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _rich(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {DATETIME}:
            return datetime.fromisoformat(value[DATETIME])
        if set(value) == {BYTES}:
            return base64.b64decode(value[BYTES], validate=True)
        return {key: _rich(item) for key, item in value.items()}
    return [_rich(item) for item in value] if isinstance(value, list) else value
