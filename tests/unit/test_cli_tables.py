"""Tables of the commands: one line for each row, whatever the terminal's width."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq.cli.output import fitting, print_table

COLUMNS = ("id", "queue", "task", "error", "attempts")
ROW = ("0199f0c5a3f27d0c-1", "billing", "shop.billing.charge", "ValueError: the card was declined", 3)


class Terminal(io.StringIO):
    """Stdout, as a terminal."""

    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, width: int, **options: Sequence[str]) -> list[str]:
    """The lines of the table on a terminal of that width."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    with redirect_stdout(Terminal()) as terminal:
        print_table(COLUMNS, [ROW], numbers=("attempts",), whole=("id",), **options)
    return click.unstyle(terminal.getvalue()).splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_row_is_one_line_and_its_id_is_whole(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = shown(monkeypatch, width, spare=("queue", "task"))
    assert len(lines) == 2
    assert all(len(line) <= width for line in lines)
    assert lines[1].startswith("0199f0c5a3f27d0c-1 ")
    assert lines[1].rstrip().endswith(" 3")


def test_columns_that_are_left_out_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heading, row = shown(monkeypatch, 60, spare=("queue", "error", "task"))
    assert "queue" not in heading
    assert "error" not in heading
    assert "shop.billing.charge" in row, "what has room stays whole"
    assert "no room for: queue, error" in capsys.readouterr().err


def test_a_pipe_gets_everything(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_table(COLUMNS, [(*ROW[:3], "x" * 300, 3)], numbers=("attempts",), spare=("queue",))
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == list(COLUMNS)
    assert row.split() == ["0199f0c5a3f27d0c-1", "billing", "shop.billing.charge", "x" * 300, "3"]


@given(
    needed=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 200), min_size=1),
    width=st.integers(20, 200),
    whole=st.sets(st.sampled_from("ab")),
    spare=st.lists(st.sampled_from("gh"), unique=True),
)
def test_what_fits_is_left_alone_and_what_does_not_is_shortened_last(
    needed: dict[str, int], width: int, whole: set[str], spare: list[str]
) -> None:
    widths = fitting(needed, width, sorted(whole), spare)
    total = sum(widths.values()) + len(widths)
    assert set(needed) - set(widths) <= set(spare)
    assert all(0 < widths[column] <= needed[column] for column in widths)
    assert all(widths[column] == needed[column] for column in widths if column in whole)
    if sum(needed.values()) + len(needed) <= width:
        assert widths == needed
    if total > width:  # nothing that may be shortened is wider than the least
        assert all(size <= 8 for column, size in widths.items() if column not in whole)
