"""Tab completion, as ``docs/cli.md`` has it set up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import BashComplete
from support.process import Proc

from taskq.cli import COMMANDS, main


@pytest.mark.parametrize(
    ("words", "begun", "found"),
    [
        ([], "", list(COMMANDS)),
        ([], "ou", ["outbox-relay"]),
        (["dlq"], "re", ["replay"]),
        (["worker"], "--log-", ["--log-level", "--log-format", "--log-also"]),
        (["worker", "--pool"], "", ["threads", "processes", "solo"]),
    ],
)
def test_commands_options_and_choices_are_completed(words: list[str], begun: str, found: list[str]) -> None:
    completions = BashComplete(main, {}, "taskq", "_TASKQ_COMPLETE").get_completions(words, begun)
    assert sorted(each.value for each in completions) == sorted(found)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_line_of_the_start_up_file_prints_what_the_shell_reads(spawn: Callable[..., Proc], shell: str) -> None:
    source = spawn("-m", "taskq", env={"_TASKQ_COMPLETE": f"{shell}_source"})
    assert source.wait() == 0
    assert f"_TASKQ_COMPLETE={shell}_complete" in source.output()
    assert f"_TASKQ_COMPLETE={shell}_source taskq" in Path(__file__).parents[2].joinpath("docs/cli.md").read_text()
