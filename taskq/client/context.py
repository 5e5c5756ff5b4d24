"""What a running task can know about itself: ``current_task()``, or the first argument with ``bind=True``."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from taskq.errors import ConfigError, Retry, TaskqError
from taskq.values.delivery import Delivery, current_delivery, limits_of
from taskq.values.durations import Duration, milliseconds
from taskq.values.message import check_id
from taskq.values.transaction import Transaction

if TYPE_CHECKING:
    from taskq.client.app import TaskQ

_LARGEST_SEQUENCE = 2**53
"""Redis keeps it as a double."""


class Context:
    """One attempt of one message, seen from inside the task."""

    __slots__ = ("_delivery",)

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    @property
    def id(self) -> str:
        """The task id."""
        return self._delivery.message.task_id

    @property
    def task(self) -> str:
        """The task's name."""
        return self._delivery.message.task

    @property
    def queue(self) -> str:
        """The queue it came from."""
        return str(self._delivery.link.queue)

    @property
    def attempt(self) -> int:
        """Which run against the retry policy this is, from 1."""
        return self._delivery.attempt

    @property
    def retries(self) -> int:
        """Attempts before this one (Celery's count)."""
        return self.attempt - 1

    @property
    def deliveries(self) -> int:
        """How many times the message was handed to a worker; above 1 after a worker died with it."""
        return self._delivery.deliveries

    @property
    def replays(self) -> int:
        """How many times it came back from the dead letter queue."""
        meta = self._delivery.message.meta
        return meta.replays if meta else 0

    @property
    def schedule(self) -> str | None:
        """The schedule that sent it, if one did."""
        meta = self._delivery.message.meta
        return meta.schedule if meta else None

    @property
    def fire_time(self) -> datetime | None:
        """The fire time that its schedule sent it for, in UTC; the time it was asked for when run by hand."""
        meta = self._delivery.message.meta
        return datetime.fromtimestamp(meta.fire_time / 1000, UTC) if meta and meta.fire_time else None

    @property
    def headers(self) -> dict[str, Any]:
        """What the caller gave as ``headers=``."""
        meta = self._delivery.message.meta
        return (meta.headers if meta else None) or {}

    @property
    def soft_time_limit(self) -> float | None:
        """Seconds after which this attempt is told to end, or None."""
        return limits_of(self._delivery)[0]

    @property
    def time_limit(self) -> float | None:
        """Seconds this attempt may take, or None."""
        return limits_of(self._delivery)[1]

    @property
    def deadline(self) -> datetime | None:
        """When the hard time limit ends this attempt, or None."""
        limit = self.time_limit
        if limit is None:
            return None
        left = self._delivery.started + limit - time.monotonic()
        return datetime.now(UTC) + timedelta(seconds=left)

    @property
    def cancelled(self) -> bool:
        """Whether the task should stop: revoked, or its lease was lost. A loop in a thread task looks at it."""
        return bool(self._delivery.cancelled)

    @property
    def lease_lost(self) -> bool:
        """Whether another worker may already run this message; what this one returns will be dropped."""
        return self._delivery.cancelled == "lease lost"

    @property
    def tx(self) -> Transaction:
        """Redis commands that commit with the task's success, fenced, or not at all; see :class:`Transaction`.

        Raises:
            TaskqError: the task is settled before it runs (``delivery="at_most_once"``): nothing can commit with it.
        """
        if self._delivery.members is not None:
            raise TaskqError("each call of a batch commits its own commands: use item.tx")
        if self._delivery.settled:
            raise TaskqError('ctx.tx commits with the settle, which delivery="at_most_once" has already had')
        if self._delivery.tx is None:
            self._delivery.tx = Transaction(self._app.event_commands)
        return self._delivery.tx

    def newer(self, key: str, sequence: int, *, expires: Duration | None = None) -> bool:
        """Whether *sequence* is above the last one that this task has done of *key*; if so, it becomes the last.

        The new last number commits with the task's success, as what is given to :attr:`tx`. Two messages of one key
        that run at the same time may both be told yes: see ``docs/idempotency.md``.

        Args:
            key: whose numbers these are, such as ``"customer-7"``: 1 to 200 printable characters.
            sequence: rises with every new event of that key; within 2**53 of zero.
            expires: how long the last number is remembered; default ``idempotency_expires``.

        Raises:
            ConfigError: a key or number that cannot be used.
            BrokerError: Redis could not be asked.
        """
        place = self._place_of(key, sequence)
        return self._advance(place, self._app.sync_broker.execute("ZSCORE", place, "n"), sequence, expires)

    async def anewer(self, key: str, sequence: int, *, expires: Duration | None = None) -> bool:
        """As :meth:`newer`, without blocking the event loop."""
        return await asyncio.to_thread(self.newer, key, sequence, expires=expires)

    @property
    def _app(self) -> TaskQ:
        return self._delivery.task.app  # type: ignore[no-any-return]

    def _place_of(self, key: str, sequence: int) -> bytes:
        if not isinstance(sequence, int) or isinstance(sequence, bool) or abs(sequence) > _LARGEST_SEQUENCE:
            raise ConfigError(f"a sequence number is a whole number within 2**53 of zero, not {sequence!r}")
        return self._app.keys.queue(self.queue).last(self.task, check_id(key, "a sequence key"))

    def _advance(self, place: bytes, last: bytes | None, sequence: int, expires: Duration | None) -> bool:
        if last is not None and sequence <= float(last):
            return False
        ttl_ms = milliseconds(self._app.config.idempotency_expires if expires is None else expires, "expires")
        self.tx.execute("ZADD", place, "GT", sequence, "n")  # never back, whatever was committed meanwhile
        self.tx.execute("PEXPIRE", place, max(ttl_ms, 1))
        return True

    def retry(
        self,
        exc: BaseException | None = None,
        *,
        countdown: float | timedelta | None = None,
        eta: datetime | None = None,
        max_retries: int | None = None,
    ) -> NoReturn:
        """Leave the task and run the message again later; see :class:`taskq.Retry`.

        Args:
            exc: what went wrong; by default the exception that is being handled, if one is. After the last retry the
                dead letter tells of it.
            countdown: seconds (or ``timedelta``) to wait; below 0 is at once. By default the task's backoff decides.
            eta: the instant to run at, instead of *countdown*; one that is past is at once.
            max_retries: replaces the task's limit for this message.

        Raises:
            Retry: always.
            ConfigError: *countdown* and *eta* together.
        """
        exc = sys.exception() if exc is None else exc
        reason: str | BaseException = exc if exc is not None else "retry asked for by the task"
        raise Retry(reason, countdown=countdown, eta=eta, max_retries=max_retries) from exc


def current_task() -> Context:
    """The context of the task that runs here.

    Raises:
        TaskqError: called outside a task.
    """
    delivery = current_delivery.get()
    if delivery is None:
        raise TaskqError("current_task() is only known inside a running task")
    return Context(delivery)
