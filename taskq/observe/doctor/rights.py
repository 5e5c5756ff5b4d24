"""What the user of the broker URL may do: commands, keys and channels, tried without doing anything.

The commands go into a transaction that is thrown away: Redis checks the rights when a command is queued.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from taskq.broker.calls import LUA
from taskq.errors import BrokerError
from taskq.observe.doctor.finding import Finding, error, note, warning
from taskq.observe.doctor.patient import Patient

KEY, CHANNEL = object(), object()
"""Stand for a key and a channel of the namespace."""

SHAPES: dict[str, tuple[object, ...]] = {
    "DEL": (KEY,),
    "EVAL": ("return 1", 1, KEY),
    "EVALSHA": ("0" * 40, 1, KEY),
    "EXISTS": (KEY,),
    "GET": (KEY,),
    "GETRANGE": (KEY, 0, 0),
    "HDEL": (KEY, "f"),
    "HEXISTS": (KEY, "f"),
    "HGET": (KEY, "f"),
    "HGETALL": (KEY,),
    "HINCRBY": (KEY, "f", 1),
    "HKEYS": (KEY,),
    "HLEN": (KEY,),
    "HMGET": (KEY, "f"),
    "HSET": (KEY, "f", "v"),
    "HSETNX": (KEY, "f", "v"),
    "HVALS": (KEY,),
    "INCR": (KEY,),
    "LINDEX": (KEY, 0),
    "LLEN": (KEY,),
    "LPOP": (KEY,),
    "LPUSH": (KEY, "m"),
    "LRANGE": (KEY, 0, 0),
    "LREM": (KEY, 0, "m"),
    "LTRIM": (KEY, 0, 0),
    "MEMORY USAGE": (KEY,),
    "MGET": (KEY,),
    "PERSIST": (KEY,),
    "PEXPIRE": (KEY, 1),
    "PING": (),
    "PTTL": (KEY,),
    "PUBLISH": (CHANNEL, "x"),
    "RPUSH": (KEY, "m"),
    "SADD": (KEY, "m"),
    "SET": (KEY, "v"),
    "SISMEMBER": (KEY, "m"),
    "SMEMBERS": (KEY,),
    "SREM": (KEY, "m"),
    "SUBSCRIBE": (CHANNEL,),
    "TIME": (),
    "XACK": (KEY, "g", "1-1"),
    "XADD": (KEY, "*", "f", "v"),
    "XCLAIM": (KEY, "g", "c", 0, "1-1"),
    "XDEL": (KEY, "1-1"),
    "XGROUP CREATE": (KEY, "g", "0"),
    "XGROUP DELCONSUMER": (KEY, "g", "c"),
    "XINFO CONSUMERS": (KEY, "g"),
    "XINFO GROUPS": (KEY,),
    "XLEN": (KEY,),
    "XPENDING": (KEY, "g"),
    "XRANGE": (KEY, "-", "+"),
    "XREADGROUP": ("GROUP", "g", "c", "STREAMS", KEY, ">"),
    "XREVRANGE": (KEY, "+", "-"),
    "XTRIM": (KEY, "MAXLEN", 0),
    "ZADD": (KEY, 1, "m"),
    "ZCARD": (KEY,),
    "ZCOUNT": (KEY, 0, 1),
    "ZMSCORE": (KEY, "m"),
    "ZRANGE": (KEY, 0, 0),
    "ZRANGEBYSCORE": (KEY, 0, 1),
    "ZREM": (KEY, "m"),
    "ZREMRANGEBYRANK": (KEY, 0, 0),
    "ZREMRANGEBYSCORE": (KEY, 0, 1),
    "ZREVRANGE": (KEY, 0, 0),
    "ZSCORE": (KEY, "m"),
}
"""A call of each command that a script or a view may use; which of them are needed, the scripts say."""
DIRECT = (
    *("DEL", "EVAL", "EVALSHA", "EXISTS", "GET", "HGET", "HGETALL", "HKEYS", "HLEN", "HMGET", "HSET", "HVALS"),
    *("LLEN", "LRANGE", "MGET", "PEXPIRE", "PING", "PTTL", "SADD", "SET", "SISMEMBER", "SMEMBERS", "SUBSCRIBE"),
    *("TIME", "XACK", "XADD", "XDEL", "XINFO CONSUMERS", "XINFO GROUPS", "XLEN", "XPENDING", "XRANGE"),
    *("XREADGROUP", "XREVRANGE", "ZCARD", "ZCOUNT", "ZMSCORE", "ZRANGE", "ZRANGEBYSCORE", "ZREVRANGE", "ZSCORE"),
)
"""Commands that are sent without a script."""
CONTAINERS = ("ACL", "CLIENT", "CONFIG", "MEMORY", "XGROUP", "XINFO")
"""Commands whose first argument is a command of its own to the ACL."""
_IN_SCRIPT = re.compile(r"\b(?:call|pcall|read|count)\('([A-Z]+)'(?:, '([A-Z]+)')?")
USEFUL: dict[str, tuple[object, ...]] = {
    "CLIENT ID": (),
    "CLIENT SETNAME": ("x",),
    "CLIENT KILL": ("ID", 0),
    "CLIENT UNBLOCK": (0,),
    "CONFIG GET": ("maxmemory-policy",),
    "INFO": (),
    "ROLE": (),
    "SCAN": (0,),
}
"""Commands that taskq can do without, with less grace or fewer views."""
OWN = ("ACL WHOAMI", "DISCARD", "MULTI", "TYPE")
"""What ``taskq doctor`` alone needs."""


def check(patient: Patient) -> Iterator[Finding]:
    """Try every command."""
    if any(isinstance(reply, BrokerError) for reply in patient.ask_all([("MULTI",), ("DISCARD",)])):
        yield warning(
            "rights.unknown", "MULTI and DISCARD are refused: the rights could not be tried", "allow +multi +discard"
        )
        return
    user = (patient.may_ask("ACL", "WHOAMI") or b"?").decode(errors="replace")
    namespace = patient.keys.namespace
    refused = _refused(patient, needed())
    keys = any("one of the keys" in text for text in refused.values())
    channels = any("one of the channels" in text for text in refused.values())
    commands = [name for name, text in refused.items() if "NOPERM" in text and "one of the" not in text]
    if commands:
        yield error(
            "rights.commands",
            f"user {user} may not run {', '.join(commands)}",
            _grant(user, commands),
        )
    if missing := [name for name, text in refused.items() if "unknown" in text]:
        yield error(
            "rights.missing",
            f"Redis does not know {', '.join(missing)}: renamed or switched off, and taskq cannot do without",
            "take the rename-command lines out of redis.conf; an ACL keeps others from a command",
        )
    if keys:
        yield error(
            "rights.keys", f"user {user} may not use the keys {namespace}:*", f"ACL SETUSER {user} ~{namespace}:*"
        )
    if channels:
        yield error(
            "rights.channels",
            f"user {user} may not use the channels {namespace}:*: results and wake-ups do not arrive",
            f"ACL SETUSER {user} &{namespace}:*",
        )
    unwilling = _refused(patient, USEFUL)
    if less := [name for name, text in unwilling.items() if "NOPERM" in text]:
        yield note(
            "rights.useful",
            f"user {user} may not run {', '.join(less)}: views and stopping are less exact without",
            _grant(user, less),
        )
    if gone := [name for name, text in unwilling.items() if "unknown" in text]:
        yield note(
            "rights.useful",
            f"Redis does not know {', '.join(gone)}: views and stopping are less exact without",
            "take the rename-command lines out of redis.conf",
        )


def greeting_refused(patient: Patient, text: str) -> Finding:
    """What to grant to a user whose connections are refused when they are opened: nothing else can be tried."""
    user = patient.app.address.username or "default"
    named = re.search(r"run the '([a-z|]+)'", text)
    grant = _grant(user, [named[1]]) if named else f"ACL SETUSER {user} {acl_rule(patient.keys.namespace)}"
    return error("rights.greeting", f"user {user} cannot open a connection: {text}", grant)


def acl_rule(namespace: str) -> str:
    """The rule of an ACL that lets a user do what taskq needs in *namespace*, and nothing else."""
    commands = sorted({*needed(), *USEFUL, *OWN, "SELECT"})
    allowed = " ".join("+" + name.lower().replace(" ", "|") for name in commands)
    return f"resetkeys ~{namespace}:* resetchannels &{namespace}:* -@all {allowed}"


def needed() -> dict[str, tuple[object, ...]]:
    """The commands of all scripts, and those that are sent without one."""
    names = {*DIRECT}
    for script in LUA.rglob("*.lua"):
        for command, first in _IN_SCRIPT.findall(script.read_text("utf-8")):
            names.add(f"{command} {first}" if command in CONTAINERS else command)
    return {name: SHAPES[name] for name in sorted(names) if name in SHAPES}


def _grant(user: str, commands: list[str]) -> str:
    return f"ACL SETUSER {user} {' '.join('+' + name.lower().replace(' ', '|') for name in commands)}"


def _refused(patient: Patient, commands: dict[str, tuple[object, ...]]) -> dict[str, str]:
    """Command -> why Redis would not run it."""
    queue = patient.keys.queue(patient.config.task_default_queue)
    stand_ins = {KEY: queue.sent("doctor"), CHANNEL: queue.wake}
    made = [(*name.split(), *(stand_ins.get(part, part) for part in rest)) for name, rest in commands.items()]
    _, *replies, _ = patient.ask_all([("MULTI",), *made, ("DISCARD",)])
    return {name: str(reply) for name, reply in zip(commands, replies, strict=True) if isinstance(reply, BrokerError)}
