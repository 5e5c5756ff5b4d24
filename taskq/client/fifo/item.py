"""An item of a FIFO in the hands of its consumer."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any

from taskq.broker.calls import Call
from taskq.broker.keys import QueueKeys
from taskq.broker.scripts.settling import Settle, settle
from taskq.client.fifo.consumer import Consumer
from taskq.client.fifo.received import Received
from taskq.errors import BrokerError, BrokerRefusedError, ConfigError, ItemSettledError, LeaseLostError
from taskq.values.checks import shown

logger = logging.getLogger("taskq.fifo")

ACKNOWLEDGED, RELEASED, REJECTED, LOST = "acknowledged", "released", "rejected", "lost to another consumer"


class Item:
    """One item, received with ``get()``: yours until :meth:`ack`, :meth:`release` or :meth:`reject` settles it.

    ``with item:`` (or ``async with``) acknowledges it at the end of the block, and releases it when the block raises.
    The lease is renewed for as long as the process lives, however long that takes.
    """

    __slots__ = ("_consumer", "_ended", "_received")

    def __init__(self, consumer: Consumer, received: Received) -> None:
        self._consumer = consumer
        self._received = received
        self._ended = ""

    def __repr__(self) -> str:
        return f"<Item {self.id} of {self._consumer.source.queue}>"

    @property
    def value(self) -> Any:
        """What was put."""
        return self._received.value

    @property
    def id(self) -> str:
        """What ``put`` returned."""
        return self._received.id

    @property
    def deliveries(self) -> int:
        """How many consumers have had it, this one included; 1 but for one whose consumers died."""
        return 1 + max(self._received.crashes, int(self._received.suspect))

    def ack(self) -> None:
        """It is done: it leaves the FIFO.

        Raises:
            LeaseLostError: it is another consumer's by now; nothing was changed.
            ItemSettledError: it was settled before.
            BrokerError: Redis could not be asked; it may be repeated.
        """
        self._finish(self._run(self._ack()), ACKNOWLEDGED)

    def release(self) -> None:
        """Give it back to the front of the FIFO, for whoever asks next. Raises as :meth:`ack`."""
        self._finish(self._run(self._release()), RELEASED)

    def reject(self, reason: str = "rejected by its consumer") -> None:
        """It cannot be done: to the dead letter queue of the FIFO, with *reason*. Raises as :meth:`ack`."""
        self._finish(self._run(self._reject(reason)), REJECTED)

    async def aack(self) -> None:
        """As :meth:`ack`, without blocking the event loop."""
        self._finish(await self._arun(self._ack()), ACKNOWLEDGED)

    async def arelease(self) -> None:
        """As :meth:`release`, without blocking the event loop."""
        self._finish(await self._arun(self._release()), RELEASED)

    async def areject(self, reason: str = "rejected by its consumer") -> None:
        """As :meth:`reject`, without blocking the event loop."""
        self._finish(await self._arun(self._reject(reason)), REJECTED)

    def __enter__(self) -> Item:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._ended:
            return
        if kind is None:
            self.ack()
            return
        try:
            self.release()
        except (BrokerError, LeaseLostError) as trouble:  # the block's own error is the one to see
            self._let_go(trouble)

    async def __aenter__(self) -> Item:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._ended:
            return
        if kind is None:
            await self.aack()
            return
        try:
            await self.arelease()
        except (BrokerError, LeaseLostError) as trouble:
            self._let_go(trouble)

    def _ack(self) -> Call:
        return self._settle(self._received.acknowledged(self._keys))

    def _release(self) -> Call:
        return self._settle(self._received.released())

    def _reject(self, reason: str) -> Call:
        if not isinstance(reason, str):
            raise ConfigError(f"reason must be text, not {shown(reason)}")
        printable = reason.encode("utf-8", "backslashreplace").decode()  # a lone surrogate has no wire form
        return self._settle(self._received.dead(self._keys, "rejected", "Reject", printable))

    @property
    def _keys(self) -> QueueKeys:
        return self._consumer.source.keys

    def _settle(self, how: Settle) -> Call:
        if self._ended:
            raise ItemSettledError(f"item {self.id} is {self._ended} already; an item is settled once")
        source = self._consumer.source
        return settle(source.keys, source.streams, self._received.consumer, 0, [how])

    def _run(self, call: Call) -> Any:
        return self._consumer.app.sync_broker.run(call)

    async def _arun(self, call: Call) -> Any:
        app = self._consumer.app
        return await app.async_client.run(call, app.config.broker_deadline)

    def _finish(self, answer: Any, how: str) -> None:
        source = self._consumer.source
        if answer[0] == 0:
            self._ended = LOST
            source.lose(self._received.consumer)
            raise LeaseLostError(
                f"item {self.id}: its lease ran out, or its FIFO was closed here; it is another consumer's by now, "
                "and nothing was changed"
            )
        if answer[3]:
            said = answer[3][1].decode(errors="replace")
            raise BrokerRefusedError(f"item {self.id} stays as it is: Redis refused to end it: {said}")
        self._ended = how
        source.settled(self._received)
        if how != RELEASED:
            self._consumer.counts.add("SUCCESS" if how == ACKNOWLEDGED else "FAILURE")

    def _let_go(self, trouble: Exception) -> None:
        logger.warning("item %s could not be released: %s", self.id, trouble)
        self._ended = self._ended or RELEASED
        self._consumer.source.let_go(self._received)
