"""Writes ``docs/cli.md`` from the commands themselves: ``python -m taskq.cli.reference > docs/cli.md``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from taskq.cli import main

_START = """\
# Command line

Written by `python -m taskq.cli.reference` from the commands themselves.

Every command shows its help with `-h`. `-A module:app`, before or after the command, names an app; commands that only
look at Redis or act on it need no more than a broker URL, from `-b` or from `TASKQ_BROKER_URL`. A URL with a password
belongs into the environment: command lines can be read by every user of the machine.

| exit code | meaning |
|---|---|
| 0 | done; `taskq doctor`: healthy |
| 1 | the command ran, and its answer is no, or an id is not there; `taskq doctor`: warnings |
| 2 | wrong flags, app path or settings, or a name that nothing has |
| 3 | `taskq doctor`: errors |
| 69 | Redis cannot be reached, or refuses us |
| 130 | Ctrl-C before a command had finished; `taskq worker`: a second signal |

The name of a queue, topic, group, task, job or schedule that nothing has is treated as a typo: 2, and nothing is done.
Messages and dead letters come and go, so an id that is not there is an answer: 1. What a filter such as `--task` leaves
may be nothing: 0.

A service (`worker`, `beat`, `metrics`, `dashboard`, `outbox-relay`) and a view (`top`, `--watch`, `--follow`) run until
they are told to stop: the first Ctrl-C ends them with 0, for services SIGTERM as well. Other commands have something to
finish: Ctrl-C ends them with 130.

## Completion

In the shell's start-up file, once; then Tab completes commands and options:

| shell | line |
|---|---|
| bash | `eval "$(_TASKQ_COMPLETE=bash_source taskq)"` in `~/.bashrc` |
| zsh | `eval "$(_TASKQ_COMPLETE=zsh_source taskq)"` in `~/.zshrc` |
| fish | `_TASKQ_COMPLETE=fish_source taskq \\| source` in `~/.config/fish/config.fish` |
"""


def document() -> str:
    """The whole file."""
    context = click.Context(main, info_name="taskq")
    sections = [_section(name, command) for name, command in _commands(main, context, "taskq")]
    return "\n".join([_START, *sections]).rstrip() + "\n"


def _commands(group: click.Group, context: click.Context, path: str) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, context, f"{path} {name}")


def _section(path: str, command: click.Command) -> str:
    level = "##" if path.count(" ") == 1 else "###"
    usage = " ".join([path, *(_usage(each) for each in command.params if isinstance(each, click.Argument))])
    parts = [f"{level} {path}\n", f"`{usage}`\n" if usage != path else "", _help(command.help or "")]
    rows = [
        f"| {_names(each)} | {_text(each)} |"
        for each in command.params
        if isinstance(each, click.Option) and not each.hidden
    ]
    if rows:
        parts += ["| option | meaning |\n|---|---|\n" + "\n".join(rows) + "\n"]
    return "\n".join(filter(None, parts))


def _usage(argument: click.Argument) -> str:
    name = argument.make_metavar(click.Context(main)) if argument.metavar is None else argument.metavar
    return str(name)


def _help(text: str) -> str:
    """Paragraphs; one that click may not wrap is shown as it is."""
    shown = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        lines = paragraph.splitlines()
        shown.append("```\n" + "\n".join(lines[1:]) + "\n```\n" if lines[0] == "\b" else paragraph + "\n")
    return "\n".join(shown)


def _names(option: click.Option) -> str:
    value = "" if option.is_flag else f" {option.metavar or _kind(option)}"
    return ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts]) + value.replace("|", "\\|")


def _kind(option: click.Option) -> str:
    kind = option.type
    return (
        "|".join(map(str, kind.choices)) if isinstance(kind, click.Choice) else kind.name.upper().replace(" RANGE", "")
    )


def _text(option: click.Option) -> str:
    text = option.help or ""
    if option.show_default and option.default not in (None, "", False):
        text += f" Default: {option.default}."
    if option.envvar:
        text += f" Environment: `{option.envvar}`."
    return text.replace("|", "\\|").strip()


if __name__ == "__main__":
    click.echo(document(), nl=False)
