"""``taskq dlq``: the messages that failed for good."""

from __future__ import annotations

import click

from taskq.cli.dlq import looking, replaying


@click.group()
def dlq() -> None:
    """Look at the messages that failed for good, and deal with them.

    An ID is a task id, or the id in the first column of "taskq dlq list".
    """


for command in (looking.list_letters, looking.groups, looking.show, replaying.replay, replaying.purge):
    dlq.add_command(command)
