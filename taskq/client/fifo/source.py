"""One consumer of one FIFO: its lease, what it holds, and how it receives. Speaks in steps, see ``steps.py``."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from taskq.broker import scripts
from taskq.broker.calls import Arg
from taskq.broker.keeper import consumer_name, next_name
from taskq.broker.keys import GROUP, QueueKeys
from taskq.broker.link.replies import is_nogroup
from taskq.broker.link.sync import backoff, gave_up
from taskq.broker.scripts.settling import Settle, settle
from taskq.broker.steps import Commands, Steps, Wait
from taskq.client.fifo.received import Received, malformed
from taskq.errors import BrokerError, BrokerRefusedError, BrokerUnavailableError, DecodeError, QueueClosedError
from taskq.values.config import Config
from taskq.values.message import DEFAULT_PRIORITY

BLOCK = 5.0
"""Longest seconds that one read waits at the server."""
PAUSED = 0.5
"""Seconds between two looks at a FIFO that is paused."""
PAGE = 500
"""Deliveries looked at together when a reply was lost."""

Fields = Sequence[bytes] | None
Rows = Sequence[tuple[int, Sequence[tuple[bytes, Fields]]]]
"""Level and entries, as ``lua/settle.lua`` answers them."""


class Source:
    """A consumer: what one process (or one of its event loops) receives of one FIFO.

    Its steps are run by one caller at a time; the lease is kept by another thread, which may call :meth:`lose`.

    Args:
        keys: of the FIFO's queue.
        registry: where the names of all queues are.
        config: for the lease, the deadline and the limit of crashes.
        prefetch: how many items to hold beyond those that were asked for.
        leased: called when there is a lease to be kept.
    """

    def __init__(
        self, keys: QueueKeys, registry: bytes, config: Config, prefetch: int, leased: Callable[[], None]
    ) -> None:
        self.keys = keys
        self.queue = keys.queue
        self.consumer = consumer_name()
        self.streams = scripts.streams_of(keys, [DEFAULT_PRIORITY])
        self.held: dict[tuple[int, bytes], Received] = {}
        """What is ours and not settled, handed out or not, by level and entry."""
        self.registered = False
        """Whether the present name has its lease, as far as we know."""
        self.waiting = False
        """Whether a read waits at the server: then there is nothing to be had."""
        self.closed = False
        self._registry = registry
        self._leased = leased
        self._lease_ms = round(config.lease_timeout * 1000)
        self._deadline = config.broker_deadline
        self._max_crashes = config.max_crashes
        self._want = 1 + prefetch
        self._ready: deque[Received] = deque()
        self._unseen = False
        """Whether a reply may have been lost, so that we may own entries that we never saw."""
        self._trouble: tuple[float, Iterator[float]] | None = None
        self._lock = threading.Lock()

    def receive(self, limit: float) -> Steps[Received | None]:
        """The next item; None when there is none by *limit* on ``time.monotonic()``.

        Raises:
            QueueClosedError: the consumer was closed.
            BrokerError: Redis refused, or could not be reached for ``broker_deadline``.
        """
        while True:
            try:
                return (yield from self._receive(limit))
            except BrokerUnavailableError as error:
                self._unseen = True
                self._check_open()
                until, pauses = self._trouble = self._trouble or (time.monotonic() + self._deadline, backoff())
                pause = next(pauses)
                if time.monotonic() + pause >= until:
                    self._trouble = None
                    raise gave_up(error, self._deadline) from None
                yield Wait(pause)
            except BaseException:
                self._unseen = True  # an interrupt or a cancellation may have come between a reply and its taking
                raise

    def give_back_unseen(self) -> Steps[None]:
        """Release what nobody was given, after a receiver was interrupted: nobody may ask again for a long time."""
        if not self._unseen or not self.registered:
            return
        yield from self._take_unseen()
        yield from self._release_ready()

    def lose(self, consumer: bytes) -> None:
        """The lease of that name has run out: what it held is others'. Begin again under a new one."""
        with self._lock:
            if self.consumer == consumer:
                self.consumer = next_name(consumer)
                self.registered = self._unseen = False
                self.held.clear()
                self._ready.clear()

    def settled(self, item: Received) -> None:
        """*item* is not ours any more."""
        with self._lock:
            if item.consumer == self.consumer:
                self.held.pop((item.level, item.entry), None)

    def let_go(self, item: Received) -> None:
        """*item* could not be released: the next receiver gets it, as if its reply had been lost."""
        self.settled(item)
        self._unseen = True

    def _receive(self, limit: float) -> Steps[Received | None]:
        while True:
            self._check_open()
            if (item := self._next_ready()) is not None:
                if not item.suspect or (yield from self._mark(item)):
                    return item
            elif not self.registered:
                yield from self._register()
            elif self._unseen:
                yield from self._take_unseen()
            elif (paused := (yield from self._fetch())) is not None and not self._ready:
                remaining = limit - time.monotonic()
                if remaining <= 0:
                    return None
                if paused:
                    yield Wait(min(PAUSED, remaining))
                else:
                    yield from self._wait(min(BLOCK, remaining))

    def _next_ready(self) -> Received | None:
        with self._lock:
            return self._ready.popleft() if self._ready else None

    def _mark(self, item: Received) -> Steps[bool]:
        """Write down that a suspect is handed out, so that the next crash is charged to it; False: it is not ours."""
        marked = yield scripts.mark(self.keys, self.streams[item.level - 1], item.consumer, item.entry)
        if not marked:
            self.settled(item)
        return bool(marked)

    def _register(self) -> Steps[None]:
        consumer = self.consumer
        yield Commands([("SADD", self._registry, self.queue)])  # so that views show it, also when it was never put to
        yield scripts.register(self.keys, consumer, self._lease_ms, self.streams)
        with self._lock:
            self.registered = self.consumer == consumer
        self._leased()

    def _fetch(self) -> Steps[bool | None]:
        """Take what is there; whether the FIFO is paused, or None when the lease was lost."""
        consumer = self.consumer
        answer = yield from self._settle(consumer, self._want)
        if answer is None:
            return None
        self._trouble = None
        yield from self._take(consumer, answer[1])
        return bool(answer[2] & 2)

    def _wait(self, seconds: float) -> Steps[None]:
        """Have the server answer when there is something; taken as by :meth:`_fetch`."""
        consumer = self.consumer
        read = ("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", self._want, "BLOCK", max(round(seconds * 1000), 1))
        names = (*self.streams, *[">"] * len(self.streams))
        self.waiting = True
        try:
            found, paused = yield Commands([(*read, "STREAMS", *names), ("EXISTS", self.keys.paused)], blocking=seconds)
        finally:
            self.waiting = False
        self._check_reply(found)
        self._trouble = None
        levels = {stream: level for level, stream in enumerate(self.streams, 1)}
        rows = [(levels[stream], entries) for stream, entries in found or ()] if isinstance(found, list) else []
        yield from self._take(consumer, rows)
        if paused == 1:
            yield from self._release_ready()
        else:
            yield from self._release_ready(keep=self._want)  # such a read may take as much of each stream

    def _take_unseen(self) -> Steps[None]:
        """Take up entries that are ours but that we never saw."""
        consumer = self.consumer
        for level, stream in enumerate(self.streams, 1):
            last: bytes = b"0"
            while True:
                read = ("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", PAGE, "STREAMS", stream, last)
                (found,) = yield Commands([read])
                self._check_reply(found)
                entries = found[0][1] if isinstance(found, list) and found else []
                if not entries:
                    break
                yield from self._take(consumer, [(level, entries)])
                last = entries[-1][0]
        self._unseen = False

    def _take(self, consumer: bytes, rows: Rows) -> Steps[None]:
        """Keep what was fetched under the name *consumer*; what cannot be handed out becomes a dead letter."""
        dead: list[Settle] = []
        gone: list[Sequence[Arg]] = []
        with self._lock:
            if self.consumer != consumer:
                return  # the lease was lost meanwhile: these belong to others
            for level, entries in rows:
                for entry, fields in entries:
                    if fields is None:  # deleted under us; on Redis 6.2 it would stay pending for ever
                        gone.append(("XACK", self.streams[level - 1], GROUP, entry))
                    elif (level, entry) not in self.held:
                        unusable = self._keep(consumer, level, entry, fields)
                        dead += [unusable] if unusable else []
        if gone:
            yield Commands(gone)
        if dead:
            self._unseen = True  # until they are buried: an error here must not forget them
            answer = yield from self._settle(consumer, 0, dead)
            if answer is not None and answer[3]:
                raise BrokerRefusedError(f"Redis has reached maxmemory: a dead letter of {self.queue} has no room")

    def _keep(self, consumer: bytes, level: int, entry: bytes, fields: Sequence[bytes]) -> Settle | None:
        """Put an entry with the others; what buries it if it cannot be handed out."""
        try:
            item = Received(consumer, level, entry, fields)
        except DecodeError as error:
            return malformed(consumer, level, entry, fields, error)
        if item.crashes >= self._max_crashes:
            return item.dead(
                self.keys, "crashed", "WorkerLostError", f"{item.crashes} consumers died while they had it"
            )
        self.held[level, entry] = item
        self._ready.append(item)
        return None

    def _release_ready(self, keep: int = 0) -> Steps[None]:
        """Give back what is not handed out, beyond the first *keep*."""
        with self._lock:
            back = [self._ready.pop() for _ in range(len(self._ready) - keep)][::-1]
        if back:
            yield from self._settle(back[0].consumer, 0, [item.released() for item in back])
            for item in back:
                self.settled(item)

    def _settle(self, consumer: bytes, want: int, settled: Sequence[Settle] = ()) -> Steps[list[Any] | None]:
        """Settle and fetch; None when the lease is lost."""
        try:
            answer = yield settle(self.keys, self.streams, consumer, want, settled)
        except BrokerRefusedError as error:
            if not is_nogroup(error):
                raise
            self.registered = False
            return None
        if answer[0] == 0:
            self.lose(consumer)
            return None
        return list(answer)

    def _check_reply(self, reply: object) -> None:
        if isinstance(reply, BrokerError):
            if not is_nogroup(reply):
                raise reply
            self.registered = False

    def _check_open(self) -> None:
        if self.closed:
            raise QueueClosedError(f"{self.queue} was closed in this process; app.queue(...) opens it again")
