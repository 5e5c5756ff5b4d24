"""The part of an app that holds its configuration and this process's connections."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from taskq.broker.keys import Keys
from taskq.broker.link import address as addresses
from taskq.broker.link.aio import AsyncClient
from taskq.broker.link.listener import Listeners
from taskq.broker.link.sync import SyncBroker
from taskq.client.sender import Sender
from taskq.errors import ConfigError
from taskq.values.config import Config

_OF_CONNECTIONS = (
    "broker_url",
    "namespace",
    "broker_connection_timeout",
    "broker_deadline",
    "spool_path",
    "spool_limit",
)
"""Settings that what is connected was made with."""
_HOLDERS = frozenset({"sender", "dlq", "audit", "events", "jobs"})
"""Properties of an app that are made once and hold a connection, or the names of keys."""


class Connected:
    """What :class:`taskq.TaskQ` knows about Redis, and how it gets there.

    Args:
        settings: the fields of :class:`taskq.Config` that were given.

    Raises:
        UnknownOptionError: a setting that does not exist.
        ConfigError: a value that cannot be used.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._given = dict(settings)
        self._configure()
        self._lock = threading.Lock()
        self._listeners: Listeners | None = None
        _apps.add(self)

    def reconfigure(self, **settings: Any) -> None:
        """Change settings before anything was sent or served: what command line flags do.

        Raises:
            UnknownOptionError, ConfigError: as the constructor.
            ConfigError: a setting of connections, when this process has used them already.
        """
        given = {**self._given, **settings}
        config = Config.build(given)
        changed = [name for name in _OF_CONNECTIONS if getattr(config, name) != getattr(self.config, name)]
        if changed and self._connected():
            raise ConfigError(
                f"{' and '.join(changed)} cannot change: this app has used its connections already. Call reconfigure() "
                "before the first use, or after app.close()"
            )
        self._given = given
        self._configure()

    def _connected(self) -> bool:
        """Whether something of this process holds a connection, or the names of keys."""
        return self._listeners is not None or not _HOLDERS.isdisjoint(self.__dict__)

    def _configure(self) -> None:
        self.config = Config.build(self._given)
        self.address = addresses.parse(self.config.broker_url)
        self.keys = Keys(self.config.namespace, self.address.db)

    @cached_property
    def sender(self) -> Sender:
        """The sending side of this process."""
        return Sender(self.address, self.config, self.keys)

    @property
    def sync_broker(self) -> SyncBroker:
        """The connections of ordinary code in this process."""
        return self.sender.broker

    @property
    def async_client(self) -> AsyncClient:
        """The connection of the running event loop."""
        return self.sender.client

    @property
    def listeners(self) -> Listeners:
        """The subscriptions of this process, through which results arrive."""
        with self._lock:
            if self._listeners is None or self._listeners.pid != os.getpid():
                self._listeners = Listeners(self.address, self.keys.client, self.config.broker_connection_timeout)
            return self._listeners

    def close(self) -> None:
        """Close this process's connections; they open again when needed."""
        if "sender" in self.__dict__:
            self.sender.close()
        for name in _HOLDERS:
            self.__dict__.pop(name, None)
        with self._lock:
            if self._listeners is not None and self._listeners.pid == os.getpid():
                self._listeners.close()
            self._listeners = None

    async def aclose(self) -> None:
        """Close the connections of the running event loop, and what :meth:`close` closes."""
        if "sender" in self.__dict__:
            self.sender.close_loop()
        if self._listeners is not None:
            self._listeners.close_loop()
        await asyncio.to_thread(self.close)


_apps: weakref.WeakSet[Connected] = weakref.WeakSet()


def _in_child() -> None:
    for app in _apps:
        app._lock = threading.Lock()  # a thread of the parent may have held it


os.register_at_fork(after_in_child=_in_child)
