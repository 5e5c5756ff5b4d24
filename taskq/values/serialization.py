"""Values to bytes and back: MessagePack by msgspec, plain data only.

What survives unchanged: None, bool, int (64 bits), float, str, bytes, list, dict. An aware datetime arrives as the same
instant, in UTC. What arrives as plain data: tuple and set as list; dataclass, attrs and msgspec.Struct as dict; UUID,
Decimal, Enum, date, time, timedelta and naive datetime as their text or value; subclasses of str, int, float, bytes and
datetime, and numpy's numbers, as their plain value.
A :class:`~taskq.Secret` arrives as one, with the value in it as above.
Nothing else is accepted: no pickle, so that data in Redis can never run code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from taskq.errors import DecodeError, SerializationError
from taskq.values.escaping import escaped_json
from taskq.values.plain import base_value
from taskq.values.secret import Secret

SECRET = 1
"""MessagePack's extension type of a :class:`~taskq.Secret`; its data is the packed value."""


def pack_special(value: object) -> object:
    """The wire form of what MessagePack does not know; every encoder of users' values has it as ``enc_hook``.

    Raises:
        TypeError: there is none.
    """
    if isinstance(value, Secret):
        return msgspec.msgpack.Ext(SECRET, _encoder.encode(value.reveal()))
    if (plain := base_value(value)) is not None:
        return plain
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


def unpack_special(code: int, data: memoryview) -> object:
    """What an extension type stands for; every decoder of users' values has it as ``ext_hook``."""
    return Secret(_decoder.decode(data)) if code == SECRET else msgspec.msgpack.Ext(code, bytes(data))


_encoder = msgspec.msgpack.Encoder(enc_hook=pack_special)
_decoder = msgspec.msgpack.Decoder(ext_hook=unpack_special)


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


def to_json(value: object, *, indent: int | None = None) -> str:
    """*value* as JSON for people and for other programs; what JSON cannot hold, also as a key, as its ``repr``."""
    try:
        document = json.dumps(value, indent=indent, ensure_ascii=False, default=repr)
    except TypeError:  # a key that is not text
        document = json.dumps(_with_text_keys(value), indent=indent, ensure_ascii=False, default=repr)
    return escaped_json(document)


def _with_text_keys(value: object) -> object:
    if isinstance(value, Mapping):
        return {
            key if key is None or isinstance(key, (str, int, float)) else repr(key): _with_text_keys(item)
            for key, item in value.items()
        }
    return [_with_text_keys(item) for item in value] if isinstance(value, (list, tuple)) else value


def unserializable(what: str, error: BaseException) -> SerializationError:
    """The error for a value without a wire form, with what to do about it."""
    return SerializationError(
        f"{what} cannot be serialized: {str(error).rstrip('.')}. "
        "Pass plain data (numbers, text, bytes, lists, dicts, datetimes), or an id to find the object by."
    )
