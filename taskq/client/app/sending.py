"""The part of an app that sends prepared messages, and collects them first where that is asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from taskq.broker.producer import Attempt, Outgoing, Sendable
from taskq.client.app.connections import Connected
from taskq.client.collector import Collector, collecting
from taskq.client.hooks import Hooks


class Sending(Connected):
    """What :class:`taskq.TaskQ` does with every message that leaves it."""

    hooks: Hooks

    def batch(self) -> Collector:
        """Collect what is sent inside a block, and send it together at its end::

            with app.batch():            # or: async with app.batch():
                for order in orders:
                    send_receipt.delay(order.id)

        When the block raises, nothing is sent. Messages are accepted when the block has ended, not before. Those that
        Redis does not accept then are kept: the error's ``unsent`` is the batch, whose ``send()`` tries them again.
        """
        return Collector(self)

    def send(self, messages: Sequence[Sendable]) -> None:
        """Send prepared messages.

        Raises:
            BrokerError: Redis did not accept a page in time.
        """
        if (block := collecting(self)) is not None:
            block.add(messages)
            return
        if not self.hooks.has_listeners("sent"):
            self.sender.send(messages)
            return
        with self.hooks.sending([message.keys.queue for message in messages]):
            self.sender.send(messages)

    def send_attempts(self, attempts: deque[Attempt]) -> None:
        """Send pages that may have been tried before, and take out what was accepted.

        Raises:
            BrokerError: Redis did not accept the first of those that are left.
        """
        with self.hooks.sending(_queues(attempts)):
            self.sender.send_attempts(attempts)

    async def asend_attempts(self, attempts: deque[Attempt]) -> None:
        """As :meth:`send_attempts`, from the running event loop."""
        with self.hooks.sending(_queues(attempts)):
            await self.sender.asend_attempts(attempts)

    def send_once(self, messages: Sequence[Outgoing]) -> int:
        """Send prepared messages that all have ids of the user's, at once; how many were not sent before.

        Raises:
            BrokerError: Redis did not accept a page in time.
        """
        if not self.hooks.has_listeners("sent"):
            return self.sender.send_once(messages)
        with self.hooks.sending([message.keys.queue for message in messages]):
            return self.sender.send_once(messages)

    async def asend(self, message: Sendable) -> None:
        """Send one prepared message from the running event loop.

        Raises:
            BrokerError: Redis did not accept it in time.
        """
        if (block := collecting(self)) is not None:
            block.add((message,))
            return
        if not self.hooks.has_listeners("sent"):
            await self.sender.asend(message)
            return
        with self.hooks.sending((message.keys.queue,)):
            await self.sender.asend(message)

    async def asend_many(self, messages: Sequence[Sendable]) -> None:
        """Send prepared messages from the running event loop.

        Raises:
            BrokerError: Redis did not accept a page in time.
        """
        if (block := collecting(self)) is not None:
            block.add(messages)
            return
        if not self.hooks.has_listeners("sent"):
            await self.sender.asend_many(messages)
            return
        with self.hooks.sending([message.keys.queue for message in messages]):
            await self.sender.asend_many(messages)


def _queues(attempts: deque[Attempt]) -> list[str]:
    return [message.keys.queue for attempt in attempts for message in attempt.page]
