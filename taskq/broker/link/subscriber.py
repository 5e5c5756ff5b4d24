"""The ear of a process in ordinary code, such as a beat: what is published on one channel reaches it at once.

Nothing depends on it, since pub/sub forgets what it sends while we are away: whoever listens looks by itself too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import hiredis

from taskq.broker.link.address import Address
from taskq.broker.link.sync import SyncConnection, backoff
from taskq.errors import BrokerError

_PING_EVERY = 10.0
"""Seconds of silence after which the connection is asked whether it lives."""


class Ear:
    """Calls *heard* from a thread of its own when something is published on *channel*, and after each reconnect.

    Args:
        address: where Redis is.
        channel: what to listen to.
        connect_timeout: seconds for one attempt to connect.
        heard: must be quick.
    """

    def __init__(self, address: Address, channel: bytes, connect_timeout: float, heard: Callable[[], None]) -> None:
        self._address = address
        self._channel = channel
        self._connect_timeout = connect_timeout
        self._heard = heard
        self._closed = threading.Event()
        self._connection: SyncConnection | None = None
        self._thread = threading.Thread(target=self._listen, name="taskq-ear", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread."""
        self._closed.set()
        if self._connection is not None:
            self._connection.shutdown()
        self._thread.join(timeout=2)

    def _listen(self) -> None:
        pauses = backoff()
        while not self._closed.is_set():
            connection = self._connection = SyncConnection(self._address, self._connect_timeout)
            try:
                connection.execute("SUBSCRIBE", self._channel, deadline=time.monotonic() + self._connect_timeout)
                pauses = backoff()
                self._heard()
                self._receive(connection)
            except (BrokerError, hiredis.HiredisError):
                self._closed.wait(next(pauses))
            finally:
                connection.close()

    def _receive(self, connection: SyncConnection) -> None:
        asked = False
        while not self._closed.is_set():
            pushed = connection.read_push(_PING_EVERY)
            if pushed is None:
                if asked:  # a half-open connection looks like a quiet one
                    return
                connection.push("PING")
                asked = True
            else:
                asked = False
                if isinstance(pushed, list) and pushed[0] == b"message":
                    self._heard()
