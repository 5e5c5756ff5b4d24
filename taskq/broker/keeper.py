"""The keeper: a thread of its own that renews this process's leases and takes over those of dead ones.

It is a thread, with a socket of its own, because a lease must outlive a busy event loop. It recovers too, since a
renewal already tells when the next lease of others runs out. A worker has one, and every consumer of a FIFO.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence, Sized
from typing import Any, Protocol

from taskq import failpoints
from taskq.broker import scripts
from taskq.broker.calls import Call
from taskq.broker.keys import QueueKeys
from taskq.broker.link.address import Address
from taskq.broker.link.sync import SyncConnection
from taskq.errors import BrokerError
from taskq.values.config import Config

logger = logging.getLogger("taskq.lease")

ORPHANS = 12.0
"""Seconds after a recovery in which the dead worker's blocked read may still take messages: a little more than one
such read lasts."""
SOON = 1.0
"""Longest seconds until the next try after an error: a sixth of a lease, if that is less."""
MAX_PAGES = 50
"""Pages taken over in a row, so that a huge recovery never delays this worker's own renewals."""


def consumer_name(family: str = "") -> bytes:
    """A name that no other start of any process has: a stale one must never be taken for a live one.

    Args:
        family: what all names of one process have in common, for its supervisor.
    """
    return f"{socket.gethostname()}:{os.getpid()}:{family}{_fresh()}".encode()


def next_name(name: bytes) -> bytes:
    """The name under which the worker called *name* begins again."""
    return name[:-_FRESH] + _fresh().encode()


def is_of_family(name: bytes, family: str) -> bool:
    """Whether a worker of *family* is or was called *name*."""
    return bool(family) and name.rpartition(b":")[2][:-_FRESH] == family.encode()


_FRESH = 8


def _fresh() -> str:
    return os.urandom(_FRESH // 2).hex()


class Leased(Protocol):
    """One queue on which a process has a lease."""

    keys: QueueKeys
    queue: str
    consumer: bytes
    """The process's name in the consumer groups."""
    streams: list[bytes]

    @property
    def held(self) -> Sized:
        """Its deliveries that are not settled."""
        ...


class LeaseKeeper:
    """Keeps the leases of one process.

    Args:
        address: where Redis is.
        config: for the lease's length.
        links: the queues.
        registered: whether the links' present name has its leases.
        lost: called from this thread with the consumer name whose lease is lost.
        recovered: called from this thread with a queue and how many messages came back.
        beside: what else is done from this thread: called with its connection and ``time.monotonic()``, returns the
            seconds until it wants to be called again, and raises nothing. Renewals go first.
        renewed: called from this thread with the seconds that a renewal took.
    """

    def __init__(
        self,
        address: Address,
        config: Config,
        links: Sequence[Leased],
        registered: Callable[[], bool],
        lost: Callable[[bytes], None],
        recovered: Callable[[str, int], None],
        beside: Callable[[SyncConnection, float], float],
        renewed: Callable[[float], None],
    ) -> None:
        self._links = links
        self._registered = registered
        self._lost = lost
        self._recovered = recovered
        self._beside = beside
        self._tell_renewed = renewed
        self._lease = config.lease_timeout
        self._soon = min(SOON, self._lease / 6)
        self._connection = SyncConnection(address, config.broker_connection_timeout)
        self._stop = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="taskq-lease", daemon=True)
        self._next_look = 0.0
        self._orphans_until = 0.0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for it; the leases stay as they are."""
        self._stop.set()
        self._woken.set()
        self._connection.shutdown()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)
        self._connection.close()

    def wake(self) -> None:
        """Something beside the leases may have to be done."""
        self._woken.set()

    def _run(self) -> None:
        next_round = 0.0
        while not self._stop.is_set():
            if time.monotonic() >= next_round:
                pause = self._renew_and_recover()
                next_round = time.monotonic() + pause
            if self._stop.is_set():
                return
            try:
                next_beside = self._beside(self._connection, time.monotonic())
            except Exception:  # a bug there must not end the renewals
                logger.exception("reporting failed")
                next_beside = self._lease
            self._woken.wait(max(min(next_round - time.monotonic(), next_beside), 0.0))
            self._woken.clear()

    def _renew_and_recover(self) -> float:
        """One round; seconds until the next, whatever Redis says."""
        try:
            return self._round(time.monotonic())
        except BrokerError as error:
            if not self._stop.is_set():
                logger.debug("lease keeper: %s", error)
            return self._soon

    def _round(self, now: float) -> float:
        """Renew, and recover what is due; seconds until the next round."""
        busy = any(link.held for link in self._links)
        pause = self._lease / (3 if busy else 2)  # who holds nothing can lose nothing
        due = self._renew(now)  # all of ours before any of another's
        if now < self._orphans_until:
            pause = min(pause, ORPHANS / 10)
            self._next_look = min(self._next_look, now)
        if now >= self._next_look:
            self._next_look = now + self._lease * random.uniform(2, 3)
            due |= self._adopt(now)
        renew_at = now + pause
        pages = 0
        while (taking := [link for link, due_in in due.items() if due_in <= 0]) and pages < MAX_PAGES:
            if pages and time.monotonic() >= renew_at:
                break  # the rest comes with the next round
            pages += 1
            due |= self._recover(taking, now)
        pause = min([pause, *due.values()])
        # jitter: of many workers, one comes first and finds the work
        return max(pause + random.uniform(0, self._lease / 50), 0.01)

    def _renew(self, now: float) -> dict[Leased, float]:
        """For each queue, the seconds until there is something to take over."""
        consumers = [link.consumer for link in self._links]
        if not self._registered():
            return dict.fromkeys(self._links, self._lease)  # about to be; to ask now would look like a lost lease
        lease_ms = round(self._lease * 1000)
        calls = [
            scripts.heartbeat(link.keys, consumer, lease_ms)
            for link, consumer in zip(self._links, consumers, strict=True)
        ]
        if failpoints.ARMED:
            failpoints.hit("renew.send")
        began = time.monotonic()
        answers = self._answers(self._links, calls, now)
        self._tell_renewed(time.monotonic() - began)
        if failpoints.ARMED:
            failpoints.hit("renew.replied")
        due = dict.fromkeys(self._links, self._soon)
        for link, (renewed, due_ms) in answers.items():
            due[link] = float(due_ms) / 1000 if renewed else self._lease
        for link, consumer in zip(self._links, consumers, strict=True):
            if link in answers and not answers[link][0]:
                self._lost(consumer)
        return due

    def _adopt(self, now: float) -> dict[Leased, float]:
        """Those queues in which somebody holds deliveries without a lease: they are due now."""
        calls = [scripts.adopt(link.keys, link.streams) for link in self._links]
        return {link: 0.0 for link, marked in self._answers(self._links, calls, now).items() if marked}

    def _recover(self, links: Sequence[Leased], now: float) -> dict[Leased, float]:
        """Take over a page of what is due in each of *links*; seconds until there can be more."""
        calls = [scripts.recover(link.keys, link.streams, b"", 1) for link in links]
        if failpoints.ARMED:
            failpoints.hit("recover.send")
        due = dict.fromkeys(links, self._soon)
        for link, (moved, more, next_ms, consumer) in self._answers(links, calls, now).items():
            if failpoints.ARMED:
                failpoints.hit("recover.page")
            if consumer:
                # a read of its that is still blocked at the server may take messages for a while
                self._orphans_until = now + ORPHANS
            if moved:
                logger.warning("recovered %d messages of dead worker %s", moved, consumer.decode())
                self._recovered(link.queue, moved)
            due[link] = 0.0 if more else next_ms / 1000 if next_ms >= 0 else self._lease
        return due

    def _answers(self, links: Sequence[Leased], calls: Sequence[Call], now: float) -> dict[Leased, Any]:
        """What Redis says to the call of each queue, all in one round trip; a queue that is refused is left out.

        Raises:
            BrokerUnavailableError: Redis cannot be reached.
        """
        found: dict[Leased, Any] = {}
        for link, answer in zip(links, self._connection.run_all(calls, now + self._lease / 2), strict=True):
            if isinstance(answer, BrokerError):  # one queue's trouble must not cost the others their lease
                logger.debug("lease keeper: queue %s: %s", link.queue, answer)
            else:
                found[link] = answer
        return found
