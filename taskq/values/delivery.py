"""One handing-over of an entry to this worker."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from taskq.values.message import PLAIN, WIRE_VERSION, Message, new_id
from taskq.values.transaction import Transaction

HANDED_BACK = "handed back"
"""Why a run was cancelled: its worker stops, and the message is in its queue again."""


class Delivery:
    """A message that this worker holds, with where it came from. One is made per fetched entry; kept small."""

    __slots__ = (
        "cancelled",
        "crashes",
        "data",
        "entry",
        "key",
        "limited",
        "link",
        "message",
        "permit",
        "settled",
        "started",
        "stream",
        "suspect",
        "task",
        "tx",
    )

    members: Sequence[Delivery] | None = None
    """Of a :class:`BatchDelivery`, the deliveries that it runs together."""

    def __init__(
        self, link: Any, key: tuple[bytes, bytes], data: bytes, message: Message, task: Any, crashes: int | None
    ) -> None:
        self.link = link
        """The queue it came from: the worker's connection to it."""
        self.key = key
        """Stream and entry id: an entry id alone is not unique, each stream counts its own."""
        self.stream, self.entry = key
        self.data = data
        """The message's bytes as they were: what a task does to its arguments must not change its next attempt."""
        self.message = message
        self.task = task
        self.suspect = crashes is not None
        """Whether it was in the hands of a worker that died: then it runs alone and on the record."""
        self.crashes = crashes or 0
        """How many workers died while they ran it."""
        self.started = 0.0
        """``time.monotonic()`` when it began to run; 0 while it waits for a slot."""
        self.cancelled: str = ""
        """Why it should stop: ``revoked``, ``lease lost``, ``soft time limit``, ``time limit``; or empty."""
        self.settled = False
        """Whether it was settled before it ran (``delivery="at_most_once"``)."""
        self.tx: Transaction | None = None
        """What the task wants committed with its success."""
        self.permit: float | None = None
        """``time.monotonic()`` by which it must start, if its task has a rate limit and it has a permit."""
        self.limited = False
        """Whether a time limit may strike while it runs."""

    @property
    def attempt(self) -> int:
        """Which run against the retry policy this is, from 1."""
        return self.message.meta.attempt if self.message.meta else 1

    @property
    def deliveries(self) -> int:
        """How many times it was handed to a worker since it was sent or last retried."""
        return 1 + max(self.crashes, int(self.suspect))


class BatchDelivery(Delivery):
    """Deliveries of one batch task that run together, as executors see them: one delivery in one slot.

    Args:
        link: takes the outcome.
        members: at least one; every one keeps its own entry, attempt and outcome.
    """

    __slots__ = ("members",)

    def __init__(self, link: Any, members: Sequence[Delivery]) -> None:
        task = members[0].task
        super().__init__(link, (b"", b""), b"", Message(WIRE_VERSION, new_id(), task.name, [], {}), task, None)
        self.members: Sequence[Delivery] = members


def limits_of(delivery: Delivery) -> tuple[float | None, float | None]:
    """Soft and hard time limit in seconds: what the call said, else what the task says."""
    meta, options = delivery.message.meta or PLAIN, delivery.task.settings
    soft = meta.soft_time_limit if meta.soft_time_limit is not None else options.soft_time_limit
    hard = meta.time_limit if meta.time_limit is not None else options.time_limit
    return soft, hard


def contents(fields: Sequence[bytes]) -> tuple[bytes, int | None]:
    """Message and crash count of an entry; nonsense becomes an undecodable message. None: it is not a suspect."""
    named: dict[bytes, bytes] = dict(zip(fields[::2], fields[1::2], strict=False))
    crashes = named.get(b"c", b"")
    return named.get(b"m", b""), int(crashes) if crashes.isdigit() else None


current_delivery: ContextVar[Delivery | None] = ContextVar("taskq_delivery", default=None)
"""Set by the runner around each call. The context object itself is only made when a task asks for it."""
