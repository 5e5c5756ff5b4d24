"""docs/cli.md has every command and every option; and none of them loads what it does not need."""

from __future__ import annotations

import subprocess
import sys

import click
from support.process import ROOT, clean_environment

from taskq.cli import COMMANDS, main
from taskq.cli.reference import document


def outline(text: str) -> list[str]:
    """The headings and the names of the options, in order."""
    lines = text.splitlines()
    return [line.split(" | ")[0] for line in lines if line.startswith(("## taskq", "### taskq", "| `-"))]


def test_the_reference_is_what_the_commands_say() -> None:
    written = outline((ROOT / "docs" / "cli.md").read_text())
    assert written == outline(document()), "run: python -m taskq.cli.reference > docs/cli.md"


def test_the_list_of_commands_says_what_each_command_says() -> None:
    context = click.Context(main, info_name="taskq")
    for name, entry in COMMANDS.items():
        command = main.get_command(context, name)
        assert command is not None
        assert entry.summary == command.get_short_help_str(500)


def test_the_list_of_commands_loads_none_of_them() -> None:
    program = """
import sys
from taskq.cli import COMMANDS, main
main(["--help"], standalone_mode=False)
print("loaded:", *({entry.module for entry in COMMANDS.values()} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], env=clean_environment(), capture_output=True, text=True)
    assert done.stdout.endswith("loaded:\n"), done.stdout + done.stderr


def test_a_command_loads_only_what_it_needs() -> None:
    """What makes ``taskq queues`` start within 0.3 seconds."""
    program = f"""
import importlib, sys
for module in {sorted({entry.module for entry in COMMANDS.values()} - {"taskq.cli.dashboard"})!r}:
    importlib.import_module(module)
slow = {{"rich", "prometheus_client", "starlette", "uvicorn", "redis", "croniter", "multiprocessing"}}
slow |= {{"difflib", "sqlite3"}}
print(*(slow & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], env=clean_environment(), capture_output=True, text=True)
    assert done.stdout.split() == [], done.stderr
