"""``taskq dlq``: the messages that failed for good."""

from __future__ import annotations

import click

from taskq.cli.dlq import looking, moving, replaying


class _InOrder(click.Group):
    """Commands in the order in which they are used, not in that of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder)
def dlq() -> None:
    """List, show, edit, replay and purge dead letters.

    \b
    taskq dlq groups                               what went wrong, how often
    taskq dlq list --fingerprint 5d41402abc4b      the dead letters of one kind
    taskq dlq show 1740830400000-0                 one of them: arguments, attempts, traceback
    taskq dlq edit 1740830400000-0 --args '[42]'   replay it with other arguments
    taskq dlq replay --task shop.pay --rate 100/s  run many again, not too fast
    taskq dlq runs                                 how the replayed ones ended

    An ID is a task id, or the id in the first column of "taskq dlq list", which is found faster. Nothing is removed
    but by a replay, a purge, or the settings dlq_retention and dlq_max_entries.
    """


for command in (
    looking.list_letters,
    looking.groups,
    looking.show,
    replaying.edit,
    replaying.replay,
    replaying.runs,
    moving.export_letters,
    moving.import_letters,
    replaying.purge,
):
    dlq.add_command(command)
