"""Batch tasks: calls that a worker collects into one invocation of the function, with an outcome for each."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from taskq.errors import ConfigError
from taskq.values.checks import shown
from taskq.values.delivery import Delivery
from taskq.values.durations import Duration, seconds
from taskq.values.functions import check_ordinary
from taskq.values.transaction import Transaction

MAX_SIZE = 2000
"""Most calls in one batch: a worker process holds at most 5,000 messages in all."""
MAX_WAIT = 86_400.0
"""Most seconds that a batch may wait for company."""


@dataclass(frozen=True, slots=True)
class Batch:
    """How the calls of a task are collected: ``@app.task(batch=Batch(size=500, wait="200ms"))``.

    Args:
        size: most calls in one invocation, 1 to 2,000.
        wait: how long the first call waits for others; seconds, a ``timedelta`` or text such as ``"200ms"``.
        by: called with the arguments of each call; calls with different answers go into different invocations. The
            arguments of ``.delay()`` are checked against its parameters.

    Raises:
        ConfigError: a value that cannot be used.
    """

    size: int = 100
    wait: Duration = 0.1
    by: Callable[..., Hashable] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or isinstance(self.size, bool) or not 1 <= self.size <= MAX_SIZE:
            raise ConfigError(f"Batch: size must be a whole number from 1 to {MAX_SIZE}, not {shown(self.size)}")
        if self.by is not None and not callable(self.by):
            raise ConfigError(f"Batch: by must be a function of the call's arguments, not {shown(self.by)}")
        if self.by is not None:
            check_ordinary(self.by, "Batch: by")
        wait = seconds(self.wait, "Batch: wait")
        if wait > MAX_WAIT:
            raise ConfigError(f"Batch: wait must be at most a day, not {shown(self.wait)}: a worker holds the calls")
        object.__setattr__(self, "wait", wait)


class BatchItem:
    """One call in a batch, as the function sees it."""

    __slots__ = ("_delivery", "error")

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self.error: BaseException | None = None
        """What :meth:`fail` was given."""

    def __repr__(self) -> str:
        return f"<call {self.id} of {self._delivery.message.task}>"

    @property
    def id(self) -> str:
        """The task id of this call."""
        return self._delivery.message.task_id

    @property
    def args(self) -> tuple[Any, ...]:
        """Its positional arguments."""
        return tuple(self._delivery.message.args)

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """Its keyword arguments."""
        return self._delivery.message.kwargs

    @property
    def attempt(self) -> int:
        """Which run of this call against the retry policy this is, from 1."""
        return self._delivery.attempt

    @property
    def headers(self) -> Mapping[str, Any]:
        """What the caller gave as ``headers=``."""
        meta = self._delivery.message.meta
        return (meta.headers if meta else None) or {}

    @property
    def cancelled(self) -> bool:
        """Whether this call was revoked meanwhile, or the worker has lost its lease."""
        return bool(self._delivery.cancelled)

    @property
    def tx(self) -> Transaction:
        """Redis commands that commit with the success of this call, or not at all; see :class:`Transaction`."""
        if self._delivery.tx is None:
            self._delivery.tx = Transaction(self._delivery.task.app.event_commands)
        return self._delivery.tx

    def fail(self, error: BaseException) -> None:
        """This call has failed, whatever the function returns: it is retried alone, or becomes a dead letter.

        Args:
            error: as if it had been raised; :class:`taskq.Retry` and :class:`taskq.Reject` mean what they mean.

        Raises:
            ConfigError: *error* is not an exception.
        """
        if not isinstance(error, BaseException):
            raise ConfigError(f"item.fail() takes an exception, such as ValueError('no such row'), not {shown(error)}")
        self.error = error
