"""What the parts of the exporter have in common."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client.core import Metric

from taskq.broker.keys import Keys

Steps = Generator[Sequence[Sequence[Any]], list[Any], list[Metric]]
"""Yields the commands of its next step and is sent their replies; returns the metrics. The reply to a command that
Redis refused is an exception."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What all subjects know at the start of a scrape."""

    keys: Keys
    now: float
    """Epoch seconds on Redis's clock."""
    queues: Sequence[str]
    """Names, sorted."""


class Subject(Protocol):
    """One kind of thing in Redis. Lives as long as the exporter, so it may remember the last scrape."""

    def read(self, moment: Moment) -> Steps:
        """Begin to read."""
