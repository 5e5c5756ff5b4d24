"""What the checks look at: one Redis and one namespace, with what several checks need read once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from taskq.broker.keys import QueueKeys
from taskq.broker.scripts import streams_of
from taskq.broker.views.inspect import QueueStats, levels, of_our_types
from taskq.broker.views.survey import read_queues
from taskq.broker.views.workers import WorkerInfo, read_workers
from taskq.client.app import TaskQ
from taskq.errors import BrokerError, BrokerUnavailableError

PAGE = 1000
"""Keys of one step of the search."""
MOST_QUEUES = 200
"""Queues looked at, the first by name."""


class Patient:
    """A Redis and a namespace.

    Args:
        app: which; its tasks are not needed.
        keys_sampled: how many keys the search for orphans looks at.
    """

    def __init__(self, app: TaskQ, keys_sampled: int) -> None:
        self.app = app
        self.keys = app.keys
        self.config = app.config
        self.keys_sampled = keys_sampled
        self.run = app.sync_broker.run

    def ask(self, *command: Any) -> Any:
        """Run one command; what is of another type than ours reads as empty.

        Raises:
            BrokerError: Redis refused it, or could not be reached.
        """
        return of_our_types(self.app.sync_broker.execute)(*command)

    def ask_all(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Run several commands in one round trip; a refused one is an exception in the list."""
        return self.app.sync_broker.pipeline(commands)

    def may_ask(self, *command: Any) -> Any:
        """Run one command; None where Redis refuses it."""
        try:
            return self.ask(*command)
        except BrokerUnavailableError:
            raise
        except BrokerError:
            return None

    @cached_property
    def info(self) -> dict[str, str]:
        """The server's INFO; empty where it is refused."""
        text = (self.may_ask("INFO") or b"").decode(errors="replace")
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    @cached_property
    def settings(self) -> dict[str, str]:
        """The server's CONFIG; empty where it is refused, as by managed services."""
        rows = self.may_ask("CONFIG", "GET", "*") or []
        return {
            name.decode(): value.decode(errors="replace") for name, value in zip(rows[::2], rows[1::2], strict=True)
        }

    @cached_property
    def now_ms(self) -> int:
        """Epoch milliseconds on Redis's clock."""
        seconds, micros = self.ask("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    @cached_property
    def names(self) -> list[str]:
        """The queues looked at."""
        return self.app.known_queues()[:MOST_QUEUES]

    @cached_property
    def queues(self) -> list[QueueStats]:
        """Their counts."""
        views = read_queues(self.app.sync_broker.pipeline, [self.keys.queue(name) for name in self.names])
        return [view.stats for view in views]

    @cached_property
    def workers(self) -> list[WorkerInfo]:
        """Who has a lease on one of them."""
        return read_workers(self.app.sync_broker.pipeline, self.keys, self.names)

    def pages(self) -> Iterator[list[bytes]]:
        """Keys of the namespace, among the first so many of the server."""
        cursor = b"0"
        for _ in range(max(self.keys_sampled // PAGE, 1)):
            cursor, found = self.ask("SCAN", cursor, "MATCH", f"{self.keys.namespace}:*", "COUNT", PAGE)
            yield found
            if cursor == b"0":
                return

    def streams(self, keys: QueueKeys) -> list[bytes]:
        """The streams of a queue that are there."""
        streams = streams_of(keys, levels(self.ask, keys))
        return [
            stream
            for stream, there in zip(streams, self.ask_all([("EXISTS", s) for s in streams]), strict=True)
            if there
        ]
