"""The ``taskq`` command. Each subcommand's module is imported when it is used, so that every one starts fast."""

from __future__ import annotations

import importlib
import signal
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from taskq import __version__
from taskq.cli.output import echo
from taskq.errors import ExitCode, suggestion


class Entry(NamedTuple):
    """Where a command is, and what it is for: a list of all commands imports none of them."""

    module: str
    summary: str
    """The first sentence of its help."""

    def short(self, limit: int = 45) -> str:
        """The summary in at most *limit* characters."""
        return click.Command(None, help=self.summary).get_short_help_str(limit)


GROUPS = {
    "Run": {
        "worker": Entry("taskq.cli.worker", "Run tasks."),
        "beat": Entry("taskq.cli.beat", "Fire the app's schedules."),
        "call": Entry("taskq.cli.call", "Send a call of TASK, or many from a file."),
        "demo": Entry("taskq.cli.demo", "See taskq work on real files, with its own Redis."),
    },
    "Look": {
        "queues": Entry("taskq.cli.queues", "List queues: waiting, running, delayed, dead."),
        "tasks": Entry("taskq.cli.tasks", "Show statistics of tasks, and their messages."),
        "workers": Entry("taskq.cli.workers", "List workers: host, running tasks, memory."),
        "top": Entry("taskq.cli.top", "Watch queues and workers live, and act on them."),
        "events": Entry("taskq.cli.events", "Show event streams, publish and replay events."),
        "jobs": Entry("taskq.cli.jobs", "Show and run batch jobs."),
        "doctor": Entry("taskq.cli.doctor", "Find what can lose, delay or strand tasks."),
        "bench": Entry("taskq.cli.bench", "Measure sending, running and latency here."),
    },
    "Act": {
        "dlq": Entry("taskq.cli.dlq", "List, show, edit, replay and purge dead letters."),
        "schedule": Entry("taskq.cli.schedule", "List, add, pause and run schedules."),
        "pause": Entry("taskq.cli.pause", "Stop the delivery of a queue until it is resumed."),
        "resume": Entry("taskq.cli.pause", "Deliver the messages of a paused queue again."),
        "purge": Entry("taskq.cli.pause", "Drop the messages that wait in a queue."),
    },
    "Serve": {
        "dashboard": Entry("taskq.cli.dashboard", "Serve the web dashboard."),
        "metrics": Entry("taskq.cli.metrics", "Serve the metrics of Redis to Prometheus."),
        "outbox-relay": Entry("taskq.cli.outbox_relay", "Send what waits in a database's outbox."),
    },
}
"""The commands by what a person wants of them, as ``taskq --help`` shows them."""
COMMANDS = {name: entry for entries in GROUPS.values() for name, entry in entries.items()}


class LazyGroup(click.Group):
    """A group whose commands are imported by need."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name].module), cmd_name.replace("-", "_"))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not ctx.resilient_parsing and args[0][:1].isalnum():
            ctx.fail(f"there is no command {args[0]!r}; {suggestion(args[0], COMMANDS, len(COMMANDS))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        longest = max(map(len, COMMANDS))
        for group, entries in GROUPS.items():
            with formatter.section(group):
                width = formatter.width - 6 - longest
                rows = [(name.ljust(longest), entry.short(width)) for name, entry in entries.items()]
                formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [
            CompletionItem(name, help=entry.short()) for name, entry in COMMANDS.items() if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C ends it with one line and INTERRUPTED. Services handle it themselves."""
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see taskq.__main__
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            echo("taskq: interrupted", err=True)
            raise SystemExit(ExitCode.INTERRUPTED) from None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-A", "--app", metavar="MODULE:APP", envvar="TASKQ_APP", help="Where the app is, such as shop.tasks:app.")
@click.version_option(__version__, message="taskq %(version)s")
@click.pass_context
def main(ctx: click.Context, app: str | None) -> None:
    """A fast, safe task queue on Redis streams.

    \b
    taskq demo                              see it work, on a Redis of its own
    taskq worker -A shop:app                run tasks
    taskq beat -A shop:app                  send scheduled tasks (as many beats as you like)
    taskq queues -b redis://localhost:6379  what waits, runs, failed (tasks, workers: more of it)
    taskq call -A shop:app shop.add -a '[1, 2]'
                                            send a call, or one for each line of a file
    taskq schedule list                     what fires when; pause, run, add schedules
    taskq pause emails                      stop a queue for a while
    taskq dlq replay --task shop.add        run dead letters again; list, show, edit, purge them
    taskq events groups orders              how far each group of subscribers has come
    taskq jobs list -A shop:app             how far batch jobs have come
    taskq dashboard                         all of that in a browser
    taskq outbox-relay                      send what database transactions have left in the outbox

    Settings also come from the environment: TASKQ_BROKER_URL, TASKQ_NAMESPACE, TASKQ_<ANY SETTING>.
    """
    ctx.obj = {"app": app}
