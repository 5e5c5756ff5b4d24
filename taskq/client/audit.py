"""The audit trail: who did what to queues and messages, and when. Bounded: the latest records, for some months."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

from taskq.broker.keys import Keys
from taskq.broker.link.sync import SyncBroker
from taskq.errors import ConfigError, DecodeError
from taskq.values import serialization
from taskq.values.checks import check_count, shown
from taskq.values.durations import moment

_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}\Z")
MOST = 10_000
"""About how many records are kept."""
TTL_MS = 90 * 86_400_000
"""How long the trail is kept after its last record."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One thing that somebody did."""

    id: str
    at: datetime
    actor: str
    action: str
    """Such as ``dlq.replay``."""
    target: str
    """What it was done to, such as a queue's name."""
    detail: Mapping[str, Any]


class Audit:
    """The audit trail of a namespace: ``app.audit``.

    Args:
        broker: runs the commands.
        keys: of the namespace.
    """

    def __init__(self, broker: SyncBroker, keys: Keys) -> None:
        self._broker = broker
        self._key = keys.audit

    def record(self, actor: str | None, action: str, target: str, detail: Mapping[str, Any] | None = None) -> None:
        """Write down that *actor* does something; before it is done, so that nothing goes unrecorded.

        Args:
            actor: who; None for the user of this process.
            action: what, such as ``dlq.replay``.
            target: what it is done to.
            detail: more about it; anything that can be sent as an argument.

        Raises:
            SerializationError: *detail* has no wire form.
            BrokerError: Redis did not accept it.
        """
        fields = (actor or this_user(), action, target, dict(detail or {}), os.urandom(8))
        data = serialization.dumps(fields, f"the detail of {action}")
        self._broker.execute("XADD", self._key, "MAXLEN", "~", MOST, "*", "r", data)
        self._broker.execute("PEXPIRE", self._key, TTL_MS)

    def read(self, limit: int = 100, *, before: str | None = None) -> list[AuditRecord]:
        """The latest *limit* records, newest first; *before* is the id of the last one of the page before.

        Raises:
            ConfigError: no number from 0 to 10,000, or no id of a record.
        """
        check_count(limit, "limit")
        if before is not None and not (isinstance(before, str) and _ID.match(before)):
            raise ConfigError(f"before must be the id of a record, not {shown(before)}")
        if not limit:
            return []
        end = "+" if before is None else f"({before}"
        found: list[AuditRecord] = []
        seen: set[bytes] = set()
        for entry, fields in self._broker.execute("XREVRANGE", self._key, end, "-", "COUNT", limit):
            try:
                actor, action, target, detail, mark = serialization.loads(fields[1])
            except (DecodeError, msgspec.DecodeError, ValueError, TypeError):
                continue  # not of this release
            if mark not in seen:  # else written twice, after a lost reply
                seen.add(mark)
                at = moment(int(entry.partition(b"-")[0]))
                found.append(AuditRecord(entry.decode(), at, actor, action, target, detail))
        return found


@lru_cache(maxsize=1)
def this_user() -> str:
    """``user@host`` of this process."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"
