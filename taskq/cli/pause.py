"""``taskq pause``, ``taskq resume`` and ``taskq purge``: what acts on whole queues."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from taskq.cli.output import echo, print_json
from taskq.cli.session import json_option, passing_app

if TYPE_CHECKING:
    from taskq.client.app import TaskQ

_names = click.argument("names", nargs=-1, metavar="[QUEUE]...")
_all = click.option("--all", "everything", is_flag=True, help="Every queue there is.")


@click.command()
@passing_app
@_all
@click.option("--new", is_flag=True, help="Also a queue that was never used.")
@json_option
@_names
def pause(app: TaskQ, everything: bool, new: bool, as_json: bool, names: tuple[str, ...]) -> None:
    """Stop the delivery of a queue until it is resumed.

    \b
    taskq pause emails              before a provider's maintenance, say
    taskq resume emails

    What runs ends as ever; messages, delays and retries collect. It is kept in Redis, so it outlives restarts of
    everything.
    """
    chosen = _chosen(app, names, everything, new=new)
    _act(chosen, app.pause, ("paused", "was paused before"), as_json, paused=True)


@click.command()
@passing_app
@_all
@json_option
@_names
def resume(app: TaskQ, everything: bool, as_json: bool, names: tuple[str, ...]) -> None:
    """Deliver the messages of a paused queue again.

    \b
    taskq resume emails
    taskq resume --all
    """
    _act(_chosen(app, names, everything), app.resume, ("resumed", "was not paused"), as_json, paused=False)


@click.command()
@passing_app
@_all
@click.option("--delayed", is_flag=True, help="Also what is not due yet, retries among it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@_names
def purge(app: TaskQ, everything: bool, delayed: bool, yes: bool, as_json: bool, names: tuple[str, ...]) -> None:
    """Drop the messages that wait in a queue. They become REVOKED.

    \b
    taskq purge emails              asks first
    taskq purge emails --yes        in a script
    taskq pause emails && taskq purge emails --delayed

    What a worker has already is not touched, and dead letters stay: see "taskq dlq purge".
    """
    chosen = _chosen(app, names, everything)
    if not yes:
        stats = [queue for queue in app.queues() if queue.queue in chosen]
        count = sum(queue.lag + (queue.delayed if delayed else 0) for queue in stats)
        click.confirm(f"Drop {count} messages of {', '.join(chosen)} for good?", abort=True)
    dropped = {name: app.purge(name, delayed=delayed) for name in chosen}
    if as_json:
        print_json([{"queue": name, "purged": count} for name, count in dropped.items()])
    else:
        for name, count in dropped.items():
            echo(f"{name}: purged {count}")


def _chosen(app: TaskQ, names: tuple[str, ...], everything: bool, *, new: bool = False) -> list[str]:
    """The queues to act on.

    Raises:
        UnknownQueueError: a name that no queue has: a typo would act on nothing, in silence.
    """
    if bool(names) == everything:
        raise click.UsageError("which queues? Give their names, or --all")
    known = app.known_queues()
    if everything:
        return known
    for name in names:
        if not new:
            app.dlq.check_queue(name)
    return list(dict.fromkeys(names))


def _act(
    names: list[str], action: Callable[[str], bool], words: tuple[str, str], as_json: bool, *, paused: bool
) -> None:
    changed = {name: action(name) for name in names}
    if as_json:
        print_json([{"queue": name, "paused": paused, "changed": done} for name, done in changed.items()])
    else:
        for name, done in changed.items():
            echo(f"{name}: {words[0 if done else 1]}")
