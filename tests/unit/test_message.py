"""The message and its wire form."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from taskq.errors import ConfigError, DecodeError, SerializationError
from taskq.values.durations import LATEST_MS
from taskq.values.message import (
    MAX_ID_LENGTH,
    MOST,
    PLAIN,
    WIRE_VERSION,
    Message,
    Meta,
    TaskState,
    check_id,
    decode,
    encode,
    new_id,
    wire_id,
)

COUNTS, INSTANTS = st.integers(1, MOST), st.integers(0, LATEST_MS)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
METAS = st.builds(
    Meta,
    attempt=COUNTS,
    crashes=COUNTS,
    priority=st.integers(0, 9),
    expires=INSTANTS,
    first=INSTANTS,
    due=INSTANTS,
    replays=COUNTS,
    unknown_since=INSTANTS,
    max_retries=st.none() | COUNTS,
    ignore_result=st.none() | st.booleans(),
    soft_time_limit=st.none() | st.floats(0, 1e9),
    time_limit=st.none() | st.floats(0, 1e9),
    headers=st.none() | st.dictionaries(st.text(), VALUES, max_size=4),
)
TEXT_IDS = st.text(min_size=1, max_size=MAX_ID_LENGTH).filter(str.isprintable)
MESSAGES = st.builds(
    Message,
    version=st.just(WIRE_VERSION),
    id=st.binary(min_size=16, max_size=16) | TEXT_IDS,
    task=st.text(min_size=1, max_size=50),
    args=st.lists(VALUES, max_size=4),
    kwargs=st.dictionaries(st.text(), VALUES, max_size=4),
    meta=st.none() | METAS,
)


def plain(**changes: Any) -> Message:
    fields: dict[str, Any] = {"id": b"\x01" * 16, "task": "shop.pay", "args": [], "kwargs": {}} | changes
    return Message(WIRE_VERSION, **fields)


def wire(*parts: Any) -> bytes:
    return msgspec.msgpack.encode(parts)


@given(MESSAGES)
def test_a_message_survives_the_wire(message: Message) -> None:
    assert decode(encode(message)) == message


def test_the_wire_form_is_an_array_of_plain_parts() -> None:
    message = plain(args=[1], kwargs={"a": 2}, meta=Meta(attempt=3, priority=9))
    assert msgspec.msgpack.decode(encode(message)) == [
        WIRE_VERSION,
        b"\x01" * 16,
        "shop.pay",
        [1],
        {"a": 2},
        {"a": 3, "p": 9},
    ]


def test_a_plain_message_is_small() -> None:
    assert len(encode(plain(id=new_id(), task="shop.pay"))) <= 35 + len("shop.pay")
    assert len(encode(plain(id=new_id(), task="x" * 100, meta=PLAIN))) <= 35 + 100


def test_default_meta_is_not_written() -> None:
    assert msgspec.msgpack.decode(encode(plain(meta=Meta())))[5] == {}
    assert Meta() == PLAIN


def test_no_two_wire_names_of_meta_are_the_same() -> None:
    names = [field.encode_name for field in msgspec.structs.fields(Meta)]
    assert len(set(names)) == len(names)


def test_a_newer_producer_may_add_to_meta_and_to_the_array() -> None:
    data = wire(WIRE_VERSION, "id", "t", [], {}, {"a": 2, "zz": {"new": 1}}, "more")
    assert decode(data) == plain(id="id", task="t", meta=Meta(attempt=2))


def test_meta_may_be_missing() -> None:
    assert decode(wire(WIRE_VERSION, "id", "t", [], {})).meta is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"\xc1",
        b"\x91" * 100_000,
        encode(plain())[:-1],
        encode(plain()) + b"\x00",
        wire(1, "id", "t", []),
        wire("1", "id", "t", [], {}),
        wire(1, 5, "t", [], {}),
        wire(1, None, "t", [], {}),
        wire(1, b"short", "t", [], {}),
        wire(1, "id", 7, [], {}),
        wire(1, "id", "t", {}, {}),
        wire(1, "id", "t", [], []),
        wire(1, "id", "t", [], {1: 2}),
        wire(1, "id", "t", [], {}, {"a": "one"}),
        wire(1, "id", "t", [], {}, []),
        b"\x95\x01\xa1\xff\xa1t\x90\x80",
    ],
)
def test_what_is_no_message_is_kept_in_the_error(data: bytes) -> None:
    with pytest.raises(DecodeError, match="not a taskq message") as caught:
        decode(data)
    assert caught.value.data == data


@pytest.mark.parametrize("version", [0, WIRE_VERSION + 1])
def test_another_wire_version_is_refused(version: int) -> None:
    data = wire(version, "id", "t", [], {})
    with pytest.raises(DecodeError, match=f"wire version {version}") as caught:
        decode(data)
    assert caught.value.data == data


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(data)


@given(MESSAGES, st.data())
def test_a_damaged_message_is_a_message_or_a_decode_error(message: Message, data: st.DataObject) -> None:
    damaged = bytearray(encode(message))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DecodeError):
        assert isinstance(decode(bytes(damaged)).task_id, str)


@pytest.mark.parametrize("value", [object(), 2**64, "\ud800", {1, object()}], ids=["object", "int", "text", "set"])
def test_an_argument_without_a_wire_form_is_refused(value: Any) -> None:
    for message in (plain(args=[value]), plain(kwargs={"a": value}), plain(meta=Meta(headers={"h": value}))):
        with pytest.raises(SerializationError, match=r"an argument of shop\.pay cannot be serialized"):
            encode(message)


# --- ids ---


def test_new_ids_differ_and_sort_by_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [new_id() for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    assert len(set(ids)) == 1000
    assert {len(raw) for raw in ids} == {16}
    stamps = [int.from_bytes(raw[:6], "big") for raw in ids]
    assert stamps == sorted(stamps)
    assert before <= stamps[0] <= stamps[-1] <= after


@given(st.binary(min_size=16, max_size=16) | TEXT_IDS)
def test_an_id_survives_the_user(raw: bytes | str) -> None:
    # 32 hexadecimal digits of the user's own are the same id as the 16 bytes they spell
    assume(isinstance(raw, bytes) or wire_id(raw) == raw)
    assert wire_id(plain(id=raw).task_id) == raw


@given(TEXT_IDS | st.text("0123456789abcdefABCDEF \t", min_size=32, max_size=32))
def test_no_two_texts_become_one_id(text: str) -> None:
    assert plain(id=wire_id(text)).task_id == text


@pytest.mark.parametrize("text", ["AB" * 16, "ab " * 10 + "ab", "g" * 32, "ab" * 15, "ab" * 17])
def test_only_canonical_hexadecimal_is_folded(text: str) -> None:
    assert wire_id(text) == text


def test_our_own_id_folds() -> None:
    raw = new_id()
    assert wire_id(raw.hex()) == raw


@pytest.mark.parametrize("task_id", ["", "x" * 201, "a\nb", "a\0", 5, None, b"id"])
def test_what_cannot_be_an_id_is_refused(task_id: Any) -> None:
    with pytest.raises(ConfigError, match="task_id must be"):
        check_id(task_id)


@pytest.mark.parametrize("task_id", ["x", "x" * 200, "order:42 für Zoë"])
def test_any_printable_text_can_be_an_id(task_id: str) -> None:
    assert check_id(task_id) == task_id


def test_final_states() -> None:
    final = {state.value for state in TaskState if state.final}
    assert final == {"SUCCESS", "FAILURE", "REVOKED", "EXPIRED", "SKIPPED"}
