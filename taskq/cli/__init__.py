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


COMMANDS = {
    "worker": Entry("taskq.cli.worker", "Run tasks."),
    "beat": Entry("taskq.cli.beat", "Fire the app's schedules."),
    "demo": Entry("taskq.cli.demo", "See taskq work on real files, on a Redis of its own."),
    "queues": Entry("taskq.cli.queues", "Show every queue: what waits, what runs, what failed for good."),
    "tasks": Entry("taskq.cli.tasks", "Statistics of each task, and the messages that have not ended."),
    "call": Entry("taskq.cli.call", "Send a call of TASK, or many from a file."),
    "workers": Entry("taskq.cli.workers", "Show every worker with a lease: where it is, what it runs, what it weighs."),
    "pause": Entry("taskq.cli.pause", "Deliver nothing more of a queue to any worker, until it is resumed."),
    "resume": Entry("taskq.cli.pause", "Deliver the messages of a paused queue again, at once."),
    "purge": Entry("taskq.cli.pause", "Drop the messages that wait in a queue, for good."),
    "bench": Entry("taskq.cli.bench", "Measure taskq on this machine with this Redis: sending, running, latency."),
    "doctor": Entry(
        "taskq.cli.doctor",
        "Look for what can lose, delay or strand tasks: in the server's settings, rights, queues, workers and keys.",
    ),
    "top": Entry("taskq.cli.top", "Watch queues, workers and running tasks in the terminal, and act on them."),
    "dlq": Entry("taskq.cli.dlq", "Look at the messages that failed for good, and deal with them."),
    "events": Entry("taskq.cli.events", "Look at event streams, publish, and have groups read again."),
    "jobs": Entry("taskq.cli.jobs", "Look at batch jobs: scheduled tasks that read the events of a window."),
    "dashboard": Entry("taskq.cli.dashboard", "Serve the web dashboard."),
    "schedule": Entry(
        "taskq.cli.schedule",
        "See and steer schedules: those of the code, of the configuration, and those added at runtime.",
    ),
    "metrics": Entry(
        "taskq.cli.metrics", "Serve what is in Redis to Prometheus, read at each scrape: queues, workers, Redis itself."
    ),
    "outbox-relay": Entry(
        "taskq.cli.outbox_relay", "Send the messages and publish the events that wait in a database's outbox."
    ),
}


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
        limit = formatter.width - 6 - max(map(len, COMMANDS))
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.short(limit)) for name, entry in COMMANDS.items()])

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
