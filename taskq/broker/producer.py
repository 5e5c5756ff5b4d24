"""Sending messages: grouped into as few script calls as possible, each sent at most once.

Every producer connection numbers its calls. The enqueue scripts refuse a number they have seen, so a call whose
reply was lost is simply sent again (the idempotent producer of Kafka, KIP-98, kept in one small key per producer).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from taskq import failpoints
from taskq.broker import scripts
from taskq.broker.aio import AsyncClient
from taskq.broker.keys import QueueKeys
from taskq.broker.scripts import MAX_PER_CALL, Call
from taskq.broker.sync import SyncBroker, SyncConnection


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """One encoded message and where it goes."""

    keys: QueueKeys
    level: int
    data: bytes
    due: str | None = None
    """None: at once; ``"+ms"``: from now on Redis's clock; else epoch milliseconds."""
    unique_id: str | None = None
    """The task id, when the user gave it: then it is sent once per id, whoever sends it."""


Planned = Callable[[bytes, int], Call]
"""A call that still needs the producer id and sequence number of the connection that will carry it."""


def pages(messages: Iterable[Outgoing]) -> list[list[Outgoing]]:
    """*messages* as script calls can take them: one target each, at most 1,000, in order within a target."""
    groups: dict[tuple[int, int, bool, str | None], list[Outgoing]] = {}
    for message in messages:
        groups.setdefault((id(message.keys), message.level, message.due is None, message.unique_id), []).append(message)
    return [
        group[start : start + MAX_PER_CALL] for group in groups.values() for start in range(0, len(group), MAX_PER_CALL)
    ]


def plan(page: Sequence[Outgoing]) -> Planned:
    """The call for one of :func:`pages`."""
    first = page[0]
    if first.unique_id is not None:
        page = page[:1]  # coroutines that send the same id at the same time: one message, as if one after the other
    if first.due is None:
        data = [message.data for message in page]
        return lambda producer, sequence: scripts.enqueue(
            first.keys, producer, sequence, first.level, data, first.unique_id
        )
    members: list[scripts.Arg] = []
    for message in page:
        members += (message.due or "+0", scripts.member(message.level, message.data))
    return lambda producer, sequence: scripts.delay(first.keys, producer, sequence, members, first.unique_id)


def send_sync(broker: SyncBroker, page: Sequence[Outgoing]) -> Any:
    """Send one page; the script's reply.

    Raises:
        BrokerError: it was not accepted within the deadline.
    """
    planned = plan(page)
    call: Call | None = None

    def work(connection: SyncConnection, limit: float) -> Any:
        nonlocal call
        if call is None:  # once: a retry must carry the same sequence number
            call = planned(connection.producer, connection.next_sequence())
        return connection.run(call, limit)

    return broker.call(work)


class AsyncProducer:
    """The sending side of one event loop.

    Calls of concurrent coroutines are collected while one call is under way and leave together in the next:
    batches form by themselves, and a lone call leaves at once.

    Args:
        client: the connection of this event loop.
        deadline: seconds for one call, reconnects included.
    """

    def __init__(self, client: AsyncClient, deadline: float) -> None:
        self._client = client
        self._deadline = deadline
        self._producer = os.urandom(8).hex().encode()
        self._sequence = 0
        self._queued: list[tuple[Outgoing, asyncio.Future[Any]]] = []
        self._pump: asyncio.Task[None] | None = None

    async def send(self, message: Outgoing) -> Any:
        """Send one message, together with those of other coroutines; the call's reply.

        Raises:
            BrokerError: it was not accepted within the deadline.
        """
        future = asyncio.get_running_loop().create_future()
        self._queued.append((message, future))
        if self._pump is None:
            self._pump = asyncio.create_task(self._drain())
        return await future

    async def send_many(self, messages: Sequence[Outgoing]) -> None:
        """Send *messages* in pages.

        Raises:
            BrokerError: a page was not accepted within the deadline; those before it were.
        """
        for page in pages(messages):
            await self._run(plan(page))

    async def _drain(self) -> None:
        try:
            while self._queued:
                batch, self._queued = self._queued, []
                await self._send_batch(batch)
        finally:
            self._pump = None

    async def _send_batch(self, batch: list[tuple[Outgoing, asyncio.Future[Any]]]) -> None:
        waiting = {id(message): future for message, future in batch}
        for page in pages(message for message, _ in batch):
            futures = [waiting[id(message)] for message in page]
            try:
                reply = await self._run(plan(page))
            except Exception as error:
                _finish(futures, lambda future, error=error: future.set_exception(error))  # type: ignore[misc]
            else:
                _finish(futures, lambda future, reply=reply: future.set_result(reply))  # type: ignore[misc]

    async def _run(self, planned: Planned) -> Any:
        self._sequence += 1
        if failpoints.ARMED:
            failpoints.hit("asend.page")
        reply = await self._client.run(planned(self._producer, self._sequence), self._deadline)
        if failpoints.ARMED:
            failpoints.hit("asend.accepted")
        return reply


def _finish(futures: Iterable[asyncio.Future[Any]], finish: Callable[[asyncio.Future[Any]], None]) -> None:
    for future in futures:
        if not future.done():  # its coroutine may have been cancelled meanwhile
            finish(future)
