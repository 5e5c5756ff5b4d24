"""How large the messages of a queue are lately, and so how many of them to ask for at once.

A worker that asks for five hundred messages gets a gigabyte where each has two megabytes. Nobody knows what comes, but
what came lately tells.
"""

from __future__ import annotations

from collections.abc import Sequence

from taskq.broker.scripts import MAX_PER_CALL
from taskq.values.delivery import Delivery

BUDGET = 16 * 1024 * 1024
"""Bytes of messages that a worker holds and does not run yet, as far as it can tell before it has them."""
FIRST = 8
"""Messages to ask for before anything is known of a queue."""
KEPT = 0.99
"""What is left of the mean and of the maximum after one message that is smaller."""
OUTLIERS = 8
"""A queue's messages count as at least the maximum over this: a few large ones must not come as a surprise."""
EVERY_ONE, STRIDE = 64, 8
"""Up to so many messages every one is measured; of more, every eighth."""
SLOW = 1.0
"""Seconds after which a reply is slow: then less is asked for, so that the next one takes about that long."""


class Sizes:
    """What is known of one queue's messages."""

    def __init__(self) -> None:
        self.page = FIRST
        """Most messages to ask for in one call."""
        self._expected = 0.0
        self._mean = 0.0
        self._largest = 0.0
        self._in_time = MAX_PER_CALL

    @property
    def large(self) -> bool:
        """Whether the messages are large enough that not every number of them may be held."""
        return self._expected * MAX_PER_CALL > BUDGET

    def fitting(self, size: int) -> int:
        """How many messages are expected to have *size* bytes together."""
        return max(int(size / max(self._expected, 1.0)), 0)

    def note(self, deliveries: Sequence[Delivery]) -> None:
        """Messages have come."""
        measured = deliveries if len(deliveries) <= EVERY_ONE else deliveries[::STRIDE]
        sizes = [len(delivery.data) for delivery in measured]
        if not sizes:
            return
        kept = KEPT ** len(deliveries)
        mean, largest = sum(sizes) / len(sizes), max(sizes)
        self._mean = max(mean, mean + (self._mean - mean) * kept)
        self._largest = max(largest, self._largest * kept)
        self._expected = max(self._mean, self._largest / OUTLIERS)
        self._set_page()

    def replied(self, count: int, seconds: float) -> None:
        """*count* messages came with a reply that took *seconds*."""
        if seconds > SLOW and count:
            self._in_time = max(int(count * SLOW / seconds), 1)
            self._set_page()
        elif self._in_time < MAX_PER_CALL and count >= self.page:
            self._in_time = min(2 * self._in_time, MAX_PER_CALL)
            self._set_page()

    def lost(self, count: int) -> None:
        """A reply of up to *count* messages did not come, perhaps because it was too much."""
        self._in_time = max(count // 2, 1)
        self._set_page()

    def _set_page(self) -> None:
        self.page = min(max(self.fitting(BUDGET), 1), self._in_time)
