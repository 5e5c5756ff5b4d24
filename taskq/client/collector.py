"""``with app.batch():`` collects what is sent inside and sends it together at the end."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING

from taskq import failpoints
from taskq.broker.producer import Attempt, Sendable, pages
from taskq.errors import BrokerError, TaskqError

if TYPE_CHECKING:
    from taskq.client.app.sending import Sending

_open: ContextVar[Collector | None] = ContextVar("taskq_batch", default=None)


class Collector:
    """The block of ``with app.batch():`` or ``async with app.batch():``; made by :meth:`TaskQ.batch`.

    Messages sent inside by this thread or coroutine, with ``.delay()`` or any other way, are accepted at the end of
    the block, a thousand to a round trip. When the block raises, none is sent. What Redis does not accept then is kept:
    its number is ``len()`` of the batch, and :meth:`send` tries it again. Blocks do not nest.
    """

    def __init__(self, app: Sending) -> None:
        self._app = app
        self._messages: list[Sendable] = []
        self._attempts: deque[Attempt] = deque()
        self._token: Token[Collector | None] | None = None
        self._pid = os.getpid()

    def __len__(self) -> int:
        return len(self._messages) + sum(len(attempt.page) for attempt in self._attempts)

    def __enter__(self) -> Collector:
        if _open.get() is not None:
            raise TaskqError("app.batch() is open already; blocks do not nest")
        self._token = _open.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close(kind)
        if kind is None:
            self.send()

    async def __aenter__(self) -> Collector:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close(kind)
        if kind is None:
            await self.asend()

    def send(self) -> None:
        """Send what was not accepted when the block ended; it does so by itself at first.

        Raises:
            BrokerError: Redis did not accept a page in time. Pages before it are accepted; the rest is kept, and may
                be sent again: a page of which nobody knows whether it was accepted is not written twice.
        """
        attempts = self._ready()
        if attempts:
            total = len(self)
            try:
                self._app.send_attempts(attempts)
            except BrokerError as error:
                raise self._told(error, total) from None

    async def asend(self) -> None:
        """As :meth:`send`, without blocking the event loop."""
        attempts = self._ready()
        if attempts:
            total = len(self)
            try:
                await self._app.asend_attempts(attempts)
            except BrokerError as error:
                raise self._told(error, total) from None

    def _ready(self) -> deque[Attempt]:
        self._forget_inherited()
        messages, self._messages = self._messages, []
        self._attempts.extend(Attempt(page) for page in pages(messages))
        return self._attempts

    def _told(self, error: BrokerError, total: int) -> BrokerError:
        error.unsent = self
        error.args = (
            f"{error}: {len(self)} of the {total} messages of app.batch() were not accepted; they are kept in the "
            "batch, which is this error's .unsent: its send() (or asend()) tries them again",
        )
        return error

    def _close(self, kind: type[BaseException] | None) -> None:
        if self._token is not None:
            _open.reset(self._token)
            self._token = None
        self._forget_inherited()
        if kind is not None:
            self._messages = []
        if failpoints.ARMED:
            failpoints.hit("batch.close")

    def _forget_inherited(self) -> None:
        # after a fork inside the block: what was collected before it is the parent's to send, once
        if self._pid != os.getpid():
            self._pid, self._messages, self._attempts = os.getpid(), [], deque()

    def add(self, messages: Sequence[Sendable]) -> None:
        """Keep *messages* until the block ends."""
        self._forget_inherited()
        self._messages += messages


def collecting(app: Sending) -> Collector | None:
    """The open block of *app* around the caller, if any."""
    collector = _open.get()
    return collector if collector is not None and collector._app is app else None
