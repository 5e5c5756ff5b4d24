"""What Redis's error replies mean for a caller: try again, or give up with which error."""

from __future__ import annotations

from hiredis import ReplyError

from taskq.errors import BrokerAuthError, BrokerError, BrokerRefusedError, BrokerUnavailableError

_PASSING = ("LOADING", "BUSY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "UNBLOCKED")
"""States of a server that end by themselves: a restart, a failover, a slow script."""
_AUTH = ("NOAUTH", "WRONGPASS", "ERR invalid password", "ERR Client sent AUTH", "ERR AUTH")


def is_noscript(error: object) -> bool:
    """Whether the server does not know a script (restarted, or its scripts were flushed)."""
    return isinstance(error, Exception) and "NOSCRIPT" in str(error)


def is_nogroup(error: BaseException) -> bool:
    """Whether a stream or its group is gone (FLUSHALL, DEL, XGROUP DESTROY)."""
    return "NOGROUP" in str(error)


def broker_error(error: ReplyError) -> BrokerError:
    """Our error for one of Redis's."""
    text = str(error).rstrip(".")
    if text.startswith(_PASSING):
        return BrokerUnavailableError(f"Redis is not ready: {text}")
    if text.startswith(_AUTH):
        return BrokerAuthError(f"Redis refused us: {text}; check user and password in broker_url")
    if text.startswith("NOPERM"):
        return BrokerAuthError(f"Redis lets this user not do that: {text}; taskq doctor says which rights it lacks")
    if text.startswith(("OOM", "-OOM")) or "OOM command not allowed" in text:
        return BrokerRefusedError(f"Redis has reached maxmemory: {text}")
    return BrokerRefusedError(f"Redis answered: {text}")
