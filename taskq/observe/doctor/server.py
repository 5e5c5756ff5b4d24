"""The server's version, settings and state."""

from __future__ import annotations

import re
from collections.abc import Iterator

from taskq.broker.views.durability import ServerSettings
from taskq.observe.doctor.finding import Finding, error, note, warning
from taskq.observe.doctor.patient import Patient

OLDEST = (6, 2)
SHORTEST_TIMEOUT = 30
"""Seconds of ``timeout`` below which Redis cuts connections that only wait."""


def describe(patient: Patient) -> str:
    """The server in a few words."""
    info, settings = patient.info, patient.settings
    known = {
        name.replace("-", "_"): settings[name]
        for name in ("appendonly", "appendfsync", "save", "maxmemory-policy")
        if name in settings
    }
    return str(ServerSettings(version=_version(info), **known))


def check_mode(patient: Patient) -> Finding | None:
    """Whether this is not a Redis that taskq can use: then nothing else need be looked at."""
    mode = patient.info.get("redis_mode", "standalone")
    if mode == "cluster":
        return error(
            "server.mode",
            "this is a node of a Redis Cluster, which taskq does not support yet: it refuses the keys of other nodes",
            "use one Redis, with replicas if need be",
        )
    if mode == "sentinel":
        return error(
            "server.mode",
            "this is a Sentinel, which keeps no data: taskq does not ask it for the primary yet",
            "give taskq the address of the primary, or of what always leads to it (a proxy, a DNS name)",
        )
    return None


def check(patient: Patient) -> Iterator[Finding]:
    """Look at INFO and CONFIG."""
    if not patient.info:
        yield warning("server.info", "INFO is refused: the server could not be looked at", "allow it: +info")
    if not patient.settings:
        yield note("server.config", "CONFIG is refused, as managed services do", "look at the service's own settings")
    yield from _version_and_role(patient.info)
    yield from _persistence(patient.info, patient.settings)
    yield from _memory(patient.info, patient.settings)
    yield from _connections(patient.info, patient.settings)


def _version(info: dict[str, str]) -> str:
    return info.get("valkey_version") or info.get("redis_version", "unknown")


def _version_and_role(info: dict[str, str]) -> Iterator[Finding]:
    version = _version(info)
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers and numbers < OLDEST:
        yield error("server.version", f"Redis {version} lacks commands that taskq needs", "use 6.2 or newer, or Valkey")
    if info.get("role", "master") != "master":
        yield error("server.role", "this is a replica: it refuses every write", "give taskq the address of the primary")
    if info.get("loading") == "1":
        yield warning("server.loading", "Redis is loading its data", "wait until it has")


def _persistence(info: dict[str, str], settings: dict[str, str]) -> Iterator[Finding]:
    if settings.get("appendonly") == "no":
        since = "since the last snapshot" if settings.get("save") else "there is, for there are no snapshots either"
        yield error(
            "server.persistence",
            f"appendonly is no: a restart of Redis loses every task {since}",
            "CONFIG SET appendonly yes, and in redis.conf",
        )
    elif settings.get("appendfsync") == "no":
        yield warning(
            "server.persistence",
            "appendfsync is no: a crash of Redis's host can lose 30 seconds of tasks",
            "CONFIG SET appendfsync everysec, and in redis.conf",
        )
    for field, what in (("aof_last_write_status", "the AOF"), ("rdb_last_bgsave_status", "a snapshot")):
        if info.get(field, "ok") != "ok":
            yield error(
                "server.disk", f"Redis could not write {what} ({field}: {info[field]})", "look at its log and its disk"
            )


def _memory(info: dict[str, str], settings: dict[str, str]) -> Iterator[Finding]:
    policy = settings.get("maxmemory-policy") or info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield error(
            "server.eviction",
            f"maxmemory-policy is {policy}: when memory is full Redis deletes queues and results, and says nothing",
            "CONFIG SET maxmemory-policy noeviction, and in redis.conf",
        )
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if info and not limit:
        yield note(
            "server.maxmemory",
            "maxmemory is not set: when the host's memory is full, the kernel kills Redis",
            "set it to about three quarters of the host's memory",
        )
    elif limit and used > 0.8 * limit:
        grave = error if used > 0.95 * limit else warning
        yield grave(
            "server.maxmemory",
            f"{used / limit:.0%} of maxmemory is used; when it is full, .delay() raises",
            "raise maxmemory, drain queues, shorten result_expires, or purge dead letters",
        )


def _connections(info: dict[str, str], settings: dict[str, str]) -> Iterator[Finding]:
    timeout = int(settings.get("timeout", 0))
    if 0 < timeout < SHORTEST_TIMEOUT:
        yield warning(
            "server.timeout",
            f"timeout is {timeout} s: Redis cuts connections that only wait, and everybody connects again all the time",
            "CONFIG SET timeout 0, and in redis.conf",
        )
    clients, most = int(info.get("connected_clients", 0)), int(settings.get("maxclients", 0))
    if most and clients > 0.8 * most:
        yield warning("server.clients", f"{clients} of at most {most} connections are in use", "raise maxclients")
    if int(info.get("rejected_connections", 0)):
        yield note(
            "server.clients",
            f"{info['rejected_connections']} connections were refused since Redis started: maxclients was reached",
            "raise maxclients if it goes on",
        )
