"""Values to bytes and back: MessagePack by msgspec, plain data only.

What survives unchanged: None, bool, int (64 bits), float, str, bytes, list, dict, aware datetime.
What arrives as plain data: tuple and set as list; dataclass, attrs and msgspec.Struct as dict;
UUID, Decimal, Enum, date, time and naive datetime as their text or value.
Nothing else is accepted: no pickle, so that data in Redis can never run code.
"""

from __future__ import annotations

from typing import Any

import msgspec

from taskq.errors import DecodeError, SerializationError

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


def dumps(value: Any, what: str = "value") -> bytes:
    """Encode *value*.

    Raises:
        SerializationError: the value (or something in it) has no MessagePack form.
    """
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise unserializable(what, error) from error


def loads(data: bytes) -> Any:
    """Decode what :func:`dumps` wrote.

    Raises:
        DecodeError: the bytes are not MessagePack.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"not MessagePack: {error}", data) from error


def unserializable(what: str, error: BaseException) -> SerializationError:
    """The error for a value without a wire form, with what to do about it."""
    return SerializationError(
        f"{what} cannot be serialized: {error}. "
        "Pass plain data (numbers, text, bytes, lists, dicts, datetimes), or an id to find the object by."
    )
