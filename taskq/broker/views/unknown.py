"""Messages of tasks that no worker which had them knows: they are delayed, and say since when."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from taskq.broker.keys import QueueKeys
from taskq.broker.scripts import split_member
from taskq.broker.views.inspect import Command
from taskq.errors import DecodeError
from taskq.values.message import decode

MOST_NAME = 100
"""Characters of a task's name."""


@dataclass(slots=True)
class Unknown:
    """What was found among some delayed messages."""

    tasks: Counter[str] = field(default_factory=Counter)
    looked_at: int = 0
    since_ms: int = 0
    """Epoch milliseconds since when the first of them is unknown; 0 when there is none."""

    def add(self, members: Iterable[bytes]) -> None:
        """Look at *members* of a queue's delayed messages."""
        for member in members:
            self.looked_at += 1
            with contextlib.suppress(DecodeError):
                message = decode(split_member(member)[1])
                if message.meta is not None and message.meta.unknown_since:
                    self.tasks[message.task[:MOST_NAME]] += 1
                    self.since_ms = min(self.since_ms or message.meta.unknown_since, message.meta.unknown_since)


def first_delayed(keys: QueueKeys, most: int) -> Command:
    """Reads the *most* delayed messages of a queue that are due first, for :meth:`Unknown.add`."""
    return ("ZRANGE", keys.delayed, 0, most - 1)
