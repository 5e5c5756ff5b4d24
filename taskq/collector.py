"""``with app.batch():`` collects what is sent inside and sends it together at the end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING

from taskq import failpoints
from taskq.broker.producer import Sendable
from taskq.errors import TaskqError

if TYPE_CHECKING:
    from taskq.app.sending import Sending

_open: ContextVar[Collector | None] = ContextVar("taskq_batch", default=None)


class Collector:
    """The block of ``with app.batch():`` or ``async with app.batch():``; made by :meth:`TaskQ.batch`.

    Messages sent inside by this thread or coroutine, with ``.delay()`` or any other way, are accepted at the end of
    the block, a thousand to a round trip. When the block raises, none is sent. Blocks do not nest.
    """

    def __init__(self, app: Sending) -> None:
        self._app = app
        self._messages: list[Sendable] = []
        self._token: Token[Collector | None] | None = None
        self._pid = os.getpid()

    def __len__(self) -> int:
        return len(self._messages)

    def __enter__(self) -> Collector:
        if _open.get() is not None:
            raise TaskqError("app.batch() is open already; blocks do not nest")
        self._token = _open.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        messages = self._close()
        if kind is None and messages:
            self._app.send(messages)

    async def __aenter__(self) -> Collector:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        messages = self._close()
        if kind is None and messages:
            await self._app.asend_many(messages)

    def _close(self) -> list[Sendable]:
        if self._token is not None:
            _open.reset(self._token)
            self._token = None
        self._forget_inherited()
        messages, self._messages = self._messages, []
        if failpoints.ARMED:
            failpoints.hit("batch.close")
        return messages

    def _forget_inherited(self) -> None:
        # after a fork inside the block: what was collected before it is the parent's to send, once
        if self._pid != os.getpid():
            self._pid, self._messages = os.getpid(), []

    def add(self, messages: Sequence[Sendable]) -> None:
        """Keep *messages* until the block ends."""
        self._forget_inherited()
        self._messages += messages


def collecting(app: Sending) -> Collector | None:
    """The open block of *app* around the caller, if any."""
    collector = _open.get()
    return collector if collector is not None and collector._app is app else None
