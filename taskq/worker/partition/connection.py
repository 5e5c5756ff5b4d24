"""The connection of a worker for all that does not block: opened when it is needed, and again after trouble."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from taskq.broker.calls import Call
from taskq.broker.link.address import Address
from taskq.broker.link.aio import AsyncConnection
from taskq.broker.link.replies import is_wrongtype
from taskq.values.config import Config

logger = logging.getLogger("taskq.worker")

TELL_EVERY = 10.0
"""Seconds between log lines about new connections."""


class WorkerConnection:
    """What all parts of a worker share, but for those that block or have a thread of their own.

    Args:
        address: where Redis is.
        config: for timeouts.
    """

    def __init__(self, address: Address, config: Config) -> None:
        self._address = address
        self._config = config
        self._connection: AsyncConnection | None = None
        self._opening = asyncio.Lock()
        self._told_at = -TELL_EVERY

    async def run_call(self, call: Call) -> Any:
        """Run a script.

        Raises:
            BrokerError: Redis cannot be reached, or refuses.
        """
        connection = await self._open()
        return await connection.run(call, self._config.broker_deadline)

    async def run_calls(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts in one round trip, but for those that the server does not know.

        The answer of one that needs a key of another type than it has is a :class:`BrokerError`.

        Raises:
            BrokerError: the first other error.
        """
        connection = await self._open()
        runs = [asyncio.ensure_future(connection.run(call, self._config.broker_deadline)) for call in calls]
        answers = await asyncio.gather(*runs, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not is_wrongtype(answer):
                raise answer
        return answers

    async def pipeline(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Run commands in one round trip; one that was refused is a :class:`BrokerError` there."""
        connection = await self._open()
        return await connection.pipeline(commands, self._config.broker_deadline)

    async def execute(self, *command: Any) -> Any:
        """Run a command; raises as :meth:`run_call`."""
        connection = await self._open()
        return await connection.execute(*command, timeout=self._config.broker_deadline)

    def close(self) -> None:
        """Close it; the next call opens it again."""
        if self._connection is not None:
            self._connection.close()

    async def _open(self) -> AsyncConnection:
        connection = self._connection
        if connection is not None and connection.is_open:
            return connection
        async with self._opening:
            if self._connection is None or not self._connection.is_open:
                again = self._connection is not None
                timeout = self._config.broker_connection_timeout
                self._connection = await AsyncConnection.open(self._address, timeout, "taskq-worker")
                now = time.monotonic()
                if again and now - self._told_at > TELL_EVERY:  # a server that is not ready costs a connection a try
                    self._told_at = now
                    logger.info("connected to Redis again")
            return self._connection
