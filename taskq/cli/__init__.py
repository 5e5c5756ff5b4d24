"""The ``taskq`` command. Each subcommand's module is imported when it is used, so that every one starts fast."""

from __future__ import annotations

import importlib
import signal
from typing import Any

import click

from taskq import __version__
from taskq.errors import ExitCode

COMMANDS = {
    "worker": "taskq.cli.worker",
    "beat": "taskq.cli.beat",
    "demo": "taskq.cli.demo",
    "queues": "taskq.cli.queues",
    "tasks": "taskq.cli.tasks",
    "call": "taskq.cli.call",
    "workers": "taskq.cli.workers",
    "pause": "taskq.cli.pause",
    "resume": "taskq.cli.pause",
    "purge": "taskq.cli.pause",
    "bench": "taskq.cli.bench",
    "doctor": "taskq.cli.doctor",
    "top": "taskq.cli.top",
    "dlq": "taskq.cli.dlq",
    "events": "taskq.cli.events",
    "jobs": "taskq.cli.jobs",
    "dashboard": "taskq.cli.dashboard",
    "schedule": "taskq.cli.schedule",
    "metrics": "taskq.cli.metrics",
    "outbox-relay": "taskq.cli.outbox_relay",
}


class LazyGroup(click.Group):
    """A group whose commands are imported by need."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name]), cmd_name.replace("-", "_"))
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C ends it with one line and INTERRUPTED. Services handle it themselves."""
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see taskq.__main__
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("taskq: interrupted", err=True)
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
    taskq call shop.add -a '[1, 2]'         send a call, or one for each line of a file
    taskq schedule list                     what fires when; pause, run, add schedules
    taskq pause emails                      stop a queue for a while
    taskq dlq replay -A shop:app            run dead letters again
    taskq events groups orders              how far each group of subscribers has come
    taskq jobs list -A shop:app             how far batch jobs have come
    taskq dashboard                         all of that in a browser
    taskq outbox-relay                      send what database transactions have left in the outbox

    Settings also come from the environment: TASKQ_BROKER_URL, TASKQ_NAMESPACE, TASKQ_<ANY SETTING>.
    """
    ctx.obj = {"app": app}
