"""docs/cli.md has every command and every option."""

from __future__ import annotations

from support.process import ROOT

from taskq.cli.reference import document


def outline(text: str) -> list[str]:
    """The headings and the names of the options, in order."""
    lines = text.splitlines()
    return [line.split(" | ")[0] for line in lines if line.startswith(("## taskq", "### taskq", "| `-"))]


def test_the_reference_is_what_the_commands_say() -> None:
    written = outline((ROOT / "docs" / "cli.md").read_text())
    assert written == outline(document()), "run: python -m taskq.cli.reference > docs/cli.md"
