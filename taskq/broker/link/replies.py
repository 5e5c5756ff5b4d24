"""What Redis's error replies mean for a caller: try again, on which connection, or give up with which error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from hiredis import ReplyError

from taskq.errors import BrokerAuthError, BrokerError, BrokerRefusedError, BrokerUnavailableError

_DEMOTED = ("READONLY", "MASTERDOWN")
"""This server is not the master: whoever stays connected to it reaches nothing, while a new connection may reach the
master, since a failover moves the address."""
_ELSEWHERE = ("LOADING", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED")
"""This server cannot serve now: it restarts, was cut off from its replicas, or its cluster is being changed. Another
may stand behind the address."""
_HERE = ("BUSY", "MISCONF")
"""This server will serve again by itself: a slow script, a disk that is full. The connection is good."""
_FULL = ("ERR max number of clients",)
"""Refused when connecting, because others have all the connections."""
_AUTH = ("NOAUTH", "WRONGPASS", "ERR invalid password", "ERR Client sent AUTH", "ERR AUTH")
_IN_SCRIPT = re.compile(r"@user_script:\s*\d+: -?([A-Z]+) ")
"""Redis 6.2 wraps the error of a script's command."""


def is_noscript(error: object) -> bool:
    """Whether the server does not know a script (restarted, or its scripts were flushed)."""
    return isinstance(error, Exception) and "NOSCRIPT" in str(error)


def is_nogroup(error: BaseException) -> bool:
    """Whether a stream or its group is gone (FLUSHALL, DEL, XGROUP DESTROY)."""
    return "NOGROUP" in str(error)


def is_demoted(error: ReplyError) -> bool:
    """Whether the server is not the master any more: every connection to it must be closed."""
    text = str(error)
    return _code(text) in _DEMOTED or "instance state changed" in text  # what ends a blocked read of a demoted master


def ends_connection(error: ReplyError) -> bool:
    """Whether the same call may succeed on a new connection, and not on this one."""
    text = str(error)
    return _code(text) in _DEMOTED + _ELSEWHERE or text.startswith(_FULL)


def is_denied(error: object) -> bool:
    """Whether Redis does not do that for anybody like us: a right that is missing, a command renamed or not there."""
    text = str(error)
    words = ("NOPERM", "unknown command", "unknown subcommand", "can't run this command")
    return isinstance(error, Exception) and any(word in text for word in words)


def is_wrongtype(error: object) -> bool:
    """Whether a key holds another type than ours: nobody of ours wrote it, and nothing but that key is concerned."""
    return isinstance(error, Exception) and "WRONGTYPE" in str(error)


@contextmanager
def though_wrongtype() -> Iterator[None]:
    """For what is only for views: a key that holds another type stops nothing else."""
    try:
        yield
    except BrokerRefusedError as error:
        if not is_wrongtype(error):
            raise


def broker_error(error: ReplyError) -> BrokerError:
    """Our error for one of Redis's."""
    text = str(error).rstrip(".")
    code = _code(text)
    if code in _DEMOTED + _ELSEWHERE + _HERE:
        return BrokerUnavailableError(f"Redis is not ready: {text}")
    if text.startswith(_FULL):
        return BrokerUnavailableError(f"Redis takes no more connections: {text} (see its setting maxclients)")
    if text.startswith(_AUTH):
        return BrokerAuthError(f"Redis refused us: {text}; check user and password in broker_url")
    if code == "NOPERM":
        return BrokerAuthError(f"Redis lets this user not do that: {text}; taskq doctor says which rights it lacks")
    if code == "DENIED":
        return BrokerAuthError("Redis is in protected mode and refuses other machines: set requirepass there")
    if text.startswith(("OOM", "-OOM")) or "OOM command not allowed" in text:
        return BrokerRefusedError(f"Redis has reached maxmemory: {text}")
    return BrokerRefusedError(f"Redis answered: {text}")


def _code(text: str) -> str:
    """The word by which Redis names the kind of an error."""
    if "@user_script" in text and (inner := _IN_SCRIPT.search(text)):
        return inner[1]
    return text.partition(" ")[0].lstrip("-")
