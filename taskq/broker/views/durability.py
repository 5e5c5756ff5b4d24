"""What a Redis server's settings can lose: shown when a worker starts, refused by ``strict_durability``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from taskq.broker.link.replies import is_denied
from taskq.errors import BrokerError


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The part of a server's configuration that decides whether accepted tasks survive."""

    version: str = "unknown"
    appendonly: str = "unknown"
    appendfsync: str = "unknown"
    save: str = ""
    maxmemory_policy: str = "unknown"

    def __str__(self) -> str:
        if self.appendonly == "yes":
            persistence = f"AOF fsync {self.appendfsync}"
        elif self.appendonly == "unknown":
            persistence = "persistence unknown (CONFIG is not allowed)"
        else:
            persistence = f"RDB snapshots ({self.save})" if self.save else "no persistence"
        return f"Redis {self.version}, {persistence}, eviction {self.maxmemory_policy}"

    @property
    def hidden(self) -> str:
        """What the server did not tell, and what that hides; empty when it told all."""
        if self.version != "unknown":
            return ""
        return "Redis does not let this user run INFO: its version cannot be shown (taskq doctor --acl has the rights)"

    def dangers(self) -> list[str]:
        """Each way in which these settings can lose accepted tasks, with what to set instead."""
        found = []
        if self.appendonly == "no":
            what = "since the last snapshot " if self.save else ""
            found.append(f"a restart of Redis loses every task {what}(set appendonly yes)")
        elif self.appendfsync == "no":
            found.append("a crash of Redis's host can lose 30 seconds of tasks (set appendfsync everysec or always)")
        if self.maxmemory_policy not in ("noeviction", "unknown"):
            found.append(f"Redis may evict queues when full: {self.maxmemory_policy} (set maxmemory-policy noeviction)")
        return found


async def server_settings(execute: Callable[..., Awaitable[Any]]) -> ServerSettings:
    """Ask the server; what it does not tell stays ``unknown``.

    Raises:
        BrokerUnavailableError: it cannot be reached.
    """
    try:
        info = (await execute("INFO", "server")).decode(errors="replace")
    except BrokerError as error:
        if not is_denied(error):
            raise
        info = ""  # a user without the right to ask
    names = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    version = names.get("valkey_version") or names.get("redis_version", "unknown")
    values: dict[str, str] = {}
    for name in ("appendonly", "appendfsync", "save", "maxmemory-policy"):
        try:
            reply = await execute("CONFIG", "GET", name)
        except BrokerError as error:
            if not is_denied(error):
                raise
            break  # managed services forbid CONFIG
        if len(reply) == 2:
            values[name.replace("-", "_")] = reply[1].decode()
    return ServerSettings(version=version, **values)
