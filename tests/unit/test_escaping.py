"""Text from anywhere, shown: nothing that a terminal obeys, no line that passes for another."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq import logs
from taskq.values.escaping import escaped, escaped_json, indented
from taskq.values.serialization import to_json

FORGED = "2026-01-01 00:00:00.000 INFO    taskq.worker: all is well"
HOSTILE = [
    "\x1b[2J",
    f"x\n{FORGED}",
    f"x\r{FORGED}",
    f"x\x85{FORGED}",
    f"x\u2028{FORGED}",
    "\u202eabc",
    "\x9b31m",
    "\ud800",
]
ANY_TEXT = st.text(st.characters(exclude_categories=()))
"""Surrogates too."""


@given(ANY_TEXT)
def test_escaped_text_is_printable(text: str) -> None:
    assert escaped(text, keep="").isprintable()
    assert text.isprintable() == (escaped(text, keep="") == text)


@given(ANY_TEXT)
def test_each_line_of_indented_text_is_one_that_was_there(text: str) -> None:
    lines = indented(text).splitlines()
    assert len(lines) == len(text.split("\n"))
    assert all(line.startswith("    ") for line in lines)


@given(st.recursive(ANY_TEXT | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner)))
def test_json_says_the_same_in_printable_characters(value: object) -> None:
    document = to_json(value)
    assert document.isprintable()
    assert json.loads(document) == value
    indented_document = to_json(value, indent=2)
    assert json.loads(indented_document) == value
    assert indented_document.replace("\n", "").isprintable()


def test_json_that_is_plain_stays_as_it_is() -> None:
    assert escaped_json('{"é": "日本\U0001f600"}') == '{"é": "日本\U0001f600"}'


@pytest.mark.parametrize("formatter", [logs.TextFormatter(), logs.JsonFormatter()], ids=["text", "json"])
@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("where", ["message", "argument", "task", "id", "error"])
def test_a_record_is_one_line_with_nothing_that_a_terminal_obeys(
    formatter: logging.Formatter, text: str, where: str
) -> None:
    logger, sink = logging.getLogger("taskq.test.escaping"), io.StringIO()
    record = logger.makeRecord(logger.name, logging.INFO, __file__, 1, "hello", (), None)
    if where == "message":
        record.msg = text
    elif where == "argument":
        record.msg, record.args = "hello %s", (text,)
    elif where == "error":
        try:
            raise ValueError(text)
        except ValueError:
            record.exc_info = sys.exc_info()
    else:
        record.task_id, record.task = (text, "shop.pay") if where == "id" else ("id", text)
    handler = logging.StreamHandler(sink)
    handler.setFormatter(formatter)
    handler.handle(record)
    first, *others = sink.getvalue().removesuffix("\n").splitlines()
    assert all(line.startswith("    ") for line in others)
    assert first.isprintable()
    assert all(line.isprintable() for line in others)
    assert bool(others) == (where == "error" and isinstance(formatter, logs.TextFormatter))
