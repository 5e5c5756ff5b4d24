"""Sending messages: grouped into as few script calls as possible, each sent at most once.

Every producer connection numbers its calls. The enqueue scripts refuse a number they have seen, so a call whose
reply was lost is simply sent again (the idempotent producer of Kafka, KIP-98, kept in one small key per producer).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import msgspec

from taskq import failpoints
from taskq.broker import calls, scripts
from taskq.broker.calls import Call
from taskq.broker.keys import Keys, QueueKeys, TopicKeys
from taskq.broker.link.aio import AsyncClient, insist
from taskq.broker.link.replies import is_wrongtype
from taskq.broker.link.sync import SyncBroker, SyncConnection
from taskq.broker.scripts import MAX_DELAYED_PER_CALL, MAX_PER_CALL
from taskq.broker.scripts import topics as topic_scripts
from taskq.errors import BrokerError, BrokerUnavailableError


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """One encoded message and where it goes."""

    keys: QueueKeys
    level: int
    data: bytes
    due: str | None = None
    """None: at once; ``"+ms"``: from now on Redis's clock; else epoch milliseconds."""
    fallback: str = "raise"
    """What ``.delay()`` does when Redis cannot be reached: ``raise``, ``spool`` or ``drop``."""
    unique_id: str | None = None
    """The task id, when the user gave it: then it is sent once per id, whoever sends it."""
    ordering_key: str | None = None
    """Messages of one such key run one after the other."""


class OutgoingEvent(msgspec.Struct, frozen=True, gc=False):
    """One encoded event and the topic it goes to."""

    keys: TopicKeys
    limits: tuple[int, int, int]
    """Age in ms, number and bytes of the events that the topic keeps; 0: no limit."""
    key: str
    """Empty for none."""
    data: bytes
    level: ClassVar[int] = 0
    due: ClassVar[None] = None
    fallback: ClassVar[str] = "raise"
    unique_id: ClassVar[None] = None
    ordering_key: ClassVar[None] = None


Sendable = Outgoing | OutgoingEvent


class Attempt:
    """A page that may have to be tried more than once, and must not be accepted twice."""

    __slots__ = ("identity", "page")

    def __init__(self, page: Sequence[Sendable]) -> None:
        self.page = page
        self.identity: tuple[bytes, int] | None = None
        """The producer id and sequence number of a try of which nobody knows whether it was executed."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, BrokerUnavailableError):
            self.identity = error.identity or self.identity


Planned = Callable[[bytes, int], Call]
"""A call that still needs the producer id and sequence number of the connection that will carry it."""


Undelivered = Callable[[bytes, int, Sequence[Sendable]], bool]
"""Told the identity and messages of a page that could not be sent in time; says whether they are taken care of."""


def pages(messages: Iterable[Sendable]) -> list[list[Sendable]]:
    """*messages* as script calls can take them: one target each, in order within a target.

    At most 1,000 of them, or 250 that are delayed: each of those is sorted in, which costs Redis microseconds.
    """
    groups: dict[tuple[int, int, bool, str, str | None, bool], list[Sendable]] = {}
    for message in messages:
        ordered = message.ordering_key is not None
        target = (id(message.keys), message.level, message.due is None, message.fallback, message.unique_id, ordered)
        groups.setdefault(target, []).append(message)
    found = []
    for (_, _, at_once, *_), group in groups.items():
        most = MAX_PER_CALL if at_once else MAX_DELAYED_PER_CALL
        found += [group[start : start + most] for start in range(0, len(group), most)]
    return found


def plan(page: Sequence[Any]) -> Planned:
    """The call for one of :func:`pages`."""
    first = page[0]
    if isinstance(first, OutgoingEvent):
        return _plan_events(first, page)
    if first.unique_id is not None:
        page = page[:1]  # coroutines that send the same id at the same time: one message, as if one after the other
    if first.due is None and first.ordering_key is not None:
        pairs = [word for message in page for word in (message.ordering_key, message.data)]
        return lambda producer, sequence: scripts.enqueue_ordered(
            first.keys, producer, sequence, first.level, pairs, first.unique_id
        )
    if first.due is None:
        data = [message.data for message in page]
        return lambda producer, sequence: scripts.enqueue(
            first.keys, producer, sequence, first.level, data, first.unique_id
        )
    members: list[calls.Arg] = []
    for message in page:
        level, body = scripts.routed(message.level, message.data, message.ordering_key)
        members += (message.due or "+0", level.encode() + body)
    return lambda producer, sequence: scripts.delay(first.keys, producer, sequence, members, first.unique_id)


def once_plan(page: Sequence[Outgoing]) -> Call:
    """The call for messages of one queue that have ids of the user's: each is sent once, whoever sends it."""
    quads: list[calls.Arg] = []
    for message in page:
        level, data = scripts.routed(message.level, message.data, message.ordering_key)
        quads += (message.unique_id or "", level, message.due or "", data)
    return scripts.relay(page[0].keys, quads)


def _plan_events(first: OutgoingEvent, page: Sequence[OutgoingEvent]) -> Planned:
    events: list[calls.Arg] = []
    for event in page:
        events += (event.key, event.data)
    return lambda producer, sequence: topic_scripts.publish(first.keys, first.limits, producer, sequence, events)


class Names:
    """The queues and topics that this process has made known to views.

    Args:
        keys: of the namespace.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._known: set[str] = set()

    def known(self, message: Sendable) -> bool:
        """Whether the target of *message* was made known."""
        return message.keys.queue in self._known

    def announcement(self, message: Sendable) -> list[tuple[calls.Arg, ...]]:
        """The commands that make it known."""
        if failpoints.ARMED:
            failpoints.hit("send.announce")
        if isinstance(message, Outgoing):
            return [("SADD", self._keys.queues, message.keys.queue)]
        age, events, size = message.limits
        declared = ("HSET", message.keys.state, "age", age, "events", events, "bytes", size)
        return [("SADD", self._keys.topics, message.keys.topic), declared]

    def tell(self, connection: SyncConnection, message: Sendable, limit: float) -> None:
        """Make it known, by *limit* on ``time.monotonic()``. Raises :class:`BrokerError`."""
        self.told(message, connection.pipeline(self.announcement(message), limit))

    def told(self, message: Sendable, replies: Sequence[Any]) -> None:
        """Note the *replies* to :meth:`announcement`.

        Raises:
            BrokerError: the first that is one.
        """
        for reply in replies:
            if isinstance(reply, BrokerError) and not is_wrongtype(reply):  # of that, views suffer; see taskq doctor
                raise reply
        if failpoints.ARMED:
            failpoints.hit("send.announced")
        self._known.add(message.keys.queue)


def send_sync(
    broker: SyncBroker, page: Sequence[Sendable], undelivered: Undelivered | None = None, names: Names | None = None
) -> Any:
    """Send one page; the script's reply, or None when *undelivered* has taken care of it.

    Args:
        broker: the connections.
        page: one of :func:`pages`.
        undelivered: told when it was not accepted in time.
        names: to make the page's queue or topic known to views first, if it is new to this process.

    Raises:
        BrokerError: it was not accepted within the deadline.
    """
    identity: tuple[SyncConnection, bytes, int] | None = None

    def work(connection: SyncConnection, limit: float) -> Any:
        nonlocal identity
        if names is not None and not names.known(page[0]):
            names.tell(connection, page[0], limit)
        if identity is None:  # once: a retry must carry the same sequence number
            identity = (connection, connection.producer, connection.next_sequence())
        return connection.run(planned(*identity[1:]), limit)

    planned = plan(page)
    try:
        return broker.call(work)
    except BrokerUnavailableError:
        if undelivered is None and identity is None:
            raise
        lasting = (os.urandom(8).hex().encode(), 1)  # nothing was sent yet, but its queue's name
        if identity is not None:
            lasting = identity[1:]
            identity[0].renew_identity()
        with _lasting(lasting):
            if undelivered is None or not undelivered(*lasting, page):
                raise
        return None


@contextlib.contextmanager
def _lasting(identity: tuple[bytes, int]) -> Iterator[None]:
    """Note *identity*, which nobody may use for another page, in the error of a page that may be tried again."""
    try:
        yield
    except BrokerUnavailableError as error:
        error.identity = identity
        raise


class AsyncProducer:
    """The sending side of one event loop.

    Calls of concurrent coroutines are collected while one call is under way and leave together in the next:
    batches form by themselves, and a lone call leaves at once.

    Args:
        client: the connection of this event loop.
        deadline: seconds for one call, reconnects included.
        undelivered: told of pages that could not be sent in time.
        names: as for :func:`send_sync`.
    """

    def __init__(self, client: AsyncClient, deadline: float, undelivered: Undelivered, names: Names) -> None:
        self._client = client
        self._deadline = deadline
        self._undelivered = undelivered
        self._names = names
        self._producer = os.urandom(8).hex().encode()
        self._sequence = 0
        self._turn = asyncio.Lock()
        self._queued: list[tuple[Sendable, asyncio.Future[Any]]] = []
        self._pump: asyncio.Task[None] | None = None

    async def send(self, message: Sendable) -> Any:
        """Send one message, together with those of other coroutines; the call's reply.

        Raises:
            BrokerError: it was not accepted within the deadline.
        """
        future = asyncio.get_running_loop().create_future()
        self._queued.append((message, future))
        if self._pump is None:
            self._pump = asyncio.create_task(self._drain())
        return await future

    async def _drain(self) -> None:
        try:
            while self._queued:
                batch, self._queued = self._queued, []
                await self._send_batch(batch)
        finally:
            self._pump = None

    async def _send_batch(self, batch: list[tuple[Sendable, asyncio.Future[Any]]]) -> None:
        waiting = {id(message): future for message, future in batch}
        for page in pages(message for message, _ in batch):
            futures = [waiting[id(message)] for message in page]
            try:
                reply = await self.send_page(page)
            except Exception as error:
                _finish(futures, lambda future, error=error: future.set_exception(error))  # type: ignore[misc]
            else:
                _finish(futures, lambda future, reply=reply: future.set_result(reply))  # type: ignore[misc]

    async def send_page(self, page: Sequence[Sendable]) -> Any:
        """Send one of :func:`pages`; the script's reply, or None when it was taken care of otherwise.

        Raises:
            BrokerError: it was not accepted within the deadline.
        """
        async with self._turn:  # one at a time: a retried call must not come after one with a higher number
            self._sequence += 1
            if failpoints.ARMED:
                failpoints.hit("asend.page")
            try:
                reply = await insist(self._work(page, plan(page)(self._producer, self._sequence)), self._deadline)
            except BrokerUnavailableError:
                identity = self._producer, self._sequence
                self._producer, self._sequence = os.urandom(8).hex().encode(), 0
                with _lasting(identity):
                    if not await asyncio.to_thread(self._undelivered, *identity, page):
                        raise
                return None
            if failpoints.ARMED:
                failpoints.hit("asend.accepted")
            return reply

    def _work(self, page: Sequence[Sendable], call: Call) -> Callable[[float], Awaitable[Any]]:
        """What :func:`insist` tries: the page, behind the name of its target where that is new."""

        async def work(silence: float) -> Any:
            if not self._names.known(page[0]):
                connection = await self._client.connection(silence)
                self._names.told(page[0], await connection.pipeline(self._names.announcement(page[0]), silence))
            return await self._client.run_once(call, silence)

        return work


def _finish(futures: Iterable[asyncio.Future[Any]], finish: Callable[[asyncio.Future[Any]], None]) -> None:
    for future in futures:
        if not future.done():  # its coroutine may have been cancelled meanwhile
            finish(future)
