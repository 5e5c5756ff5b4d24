"""Every open connection of this process, by the address it was opened to.

They are closed together when one of them finds that its server is not the master any more: a subscription, or a
connection that only reads, would never be told, and stay with the old server for ever.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Protocol

import hiredis

from taskq.broker.link.address import Address
from taskq.broker.link.replies import broker_error, ends_connection, is_demoted
from taskq.errors import BrokerError

_PAUSE = 1.0
"""Seconds between two times that all connections to one address are closed: it may point to the old server for long."""


class Sibling(Protocol):
    """An open connection."""

    def shutdown(self) -> None:
        """End it, from any thread: what is under way fails, and the next call connects again."""
        ...


class _Siblings:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Address, weakref.WeakSet[Sibling]] = {}
        self._closed_at: dict[Address, float] = {}

    def joined(self, address: Address, connection: Sibling) -> None:
        with self._lock:
            self._open.setdefault(address, weakref.WeakSet()).add(connection)

    def close(self, address: Address) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._closed_at.get(address, -_PAUSE) < _PAUSE:
                return
            self._closed_at[address] = now
            others = list(self._open.get(address, ()))
        for connection in others:
            connection.shutdown()


_here = _Siblings()


def joined(address: Address, connection: Sibling) -> None:
    """*connection* was opened just now."""
    _here.joined(address, connection)


def close_all(address: Address) -> None:
    """The server at *address* is not the master any more: close what leads to it, but not twice within a second."""
    _here.close(address)


def refused(reply: hiredis.ReplyError, address: Address, close: Callable[[], None]) -> BrokerError:
    """Our error for Redis's; where another server may answer better, the next call goes to a new connection.

    Args:
        reply: what Redis answered.
        address: of its server.
        close: ends the connection that it came on.
    """
    if ends_connection(reply):
        close()
        if is_demoted(reply):
            close_all(address)
    return broker_error(reply)


def _begin_anew() -> None:
    # a forked child must not close its parent's connections, nor wait for a lock that a thread of the parent held
    global _here
    _here = _Siblings()


os.register_at_fork(after_in_child=_begin_anew)
