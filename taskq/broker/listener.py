"""Waiting for results: one subscriber connection per client process serves every waiter.

The order is what makes it safe: first the subscription stands, then the outcome is read and the wait registered in
one script, so an outcome cannot slip between. Pub/sub forgets what it sends while we are away, so after every
reconnect, and on a slow timer, each waiter reads again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import hiredis

from taskq.broker.address import Address
from taskq.broker.sync import SyncConnection, backoff
from taskq.errors import BrokerError

REREAD = 2.0
"""Seconds between a waiter's own looks at its outcome."""
_PING_EVERY = 10.0

Notify = Callable[[bytes | None], None]
"""Called from the listener's thread: the outcome, or None for 'read again'."""


class Listener:
    """The subscriber of one process.

    Args:
        address: where Redis is.
        channel_of: the channel name for a client id.
        connect_timeout: seconds for one attempt to connect.
    """

    def __init__(self, address: Address, channel_of: Callable[[str], bytes], connect_timeout: float) -> None:
        self.pid = os.getpid()
        self.channel = channel_of(os.urandom(8).hex())
        self._address = address
        self._connect_timeout = connect_timeout
        self._waiters: dict[str, list[Notify]] = {}
        self._lock = threading.Lock()
        self._subscribed = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._connection: SyncConnection | None = None

    def add(self, task_id: str, notify: Notify) -> None:
        """Call *notify* when the outcome of *task_id* is published, or must be read again."""
        with self._lock:
            self._waiters.setdefault(task_id, []).append(notify)
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="taskq-results", daemon=True)
                self._thread.start()

    def remove(self, task_id: str, notify: Notify) -> None:
        """Undo :meth:`add`."""
        with self._lock:
            waiters = self._waiters.get(task_id, [])
            if notify in waiters:
                waiters.remove(notify)
            if not waiters:
                self._waiters.pop(task_id, None)

    def ready(self, timeout: float) -> bool:
        """Whether the subscription stands, after at most *timeout* seconds."""
        return self._subscribed.wait(timeout)

    @property
    def is_ready(self) -> bool:
        """Whether the subscription stands now."""
        return self._subscribed.is_set()

    def close(self) -> None:
        """Stop the thread."""
        self._closed = True
        if self._connection is not None:
            self._connection.shutdown()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _listen(self) -> None:
        pauses = backoff()
        while not self._closed:
            connection = self._connection = SyncConnection(self._address, self._connect_timeout)
            try:
                connection.execute("SUBSCRIBE", self.channel, deadline=time.monotonic() + self._connect_timeout)
                self._subscribed.set()
                pauses = backoff()
                self._wake_all()
                self._receive(connection)
            except (BrokerError, hiredis.HiredisError):
                if not self._closed:
                    time.sleep(next(pauses))
            finally:
                self._subscribed.clear()
                connection.close()

    def _receive(self, connection: SyncConnection) -> None:
        asked = False
        while not self._closed:
            pushed = connection.read_push(_PING_EVERY)
            if pushed is None:
                if asked:  # a half-open connection looks like a quiet one: it must answer a PING
                    return
                connection.push("PING")
                asked = True
                continue
            asked = False
            if isinstance(pushed, list) and pushed[0] == b"message":
                self._deliver(pushed[2])

    def _deliver(self, payload: bytes) -> None:
        task_id, _, outcome = payload.partition(b"\n")
        with self._lock:
            waiters = self._waiters.pop(task_id.decode(), [])
        for notify in waiters:
            notify(outcome or None)

    def _wake_all(self) -> None:
        with self._lock:
            waiters: list[Any] = [notify for each in self._waiters.values() for notify in each]
        for notify in waiters:
            notify(None)
