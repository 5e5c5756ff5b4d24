"""What may stay in Redis after a test: nothing without a TTL, but for a short list."""

from __future__ import annotations

import re
from typing import Any

# Pattern of a key after "<namespace>:" -> why it may stay. A queue's name is in braces (the hash tag).
_TOPIC = r"\{[^{}/]+/\}"
_QUEUE = rf"(?:\{{[^{{}}/]+\}}|{_TOPIC}:[^:]+)"
PERMANENT_KEYS = {
    r"queues": "registry: the queues that were ever used, for views",
    r"workers": "registry: workers and their last sign of life, for views",
    r"\{schedules\}:(defined|revision|number|seen|changes)": "registry: the schedules that beats know",
    rf"{_QUEUE}:stream:(\d|front)": "the queue, kept for its consumer group; must be empty, with nothing pending",
    rf"{_QUEUE}:levels": "the priority levels that the queue has a stream for",
    rf"{_QUEUE}:schedule:.+": "last fire time of a schedule: what makes a fire time happen once",
    rf"{_QUEUE}:fires:.+": "what became of a schedule's last fire times: as many as schedule_history says",
    r"topics": "registry: the topics that were ever used, for views",
    rf"{_TOPIC}:events": "a topic keeps its events for whoever reads them, within its limits",
    rf"{_TOPIC}:topic": "how many events there were, and how far each group has come",
    rf"{_QUEUE}:job:.+": "how far a batch job has come: what makes an event count once",
    rf"{_QUEUE}:dead": "the dead letter queue never drops by itself",
    rf"{_QUEUE}:dead:groups": "how many dead letters there are of each kind; gone with the last of them",
}

_STREAM = re.compile(rf"{_QUEUE}:stream:(\d|front)")
_CONSUMERS = re.compile(rf"{_QUEUE}:consumers")


def leaked_keys(client: Any, namespace: str) -> list[str]:
    """Return one line for each key of *namespace* that should not be there any more."""
    prefix = f"{namespace}:"
    names = sorted(key.decode() for key in client.scan_iter(match=f"{prefix}*", count=1000))
    problems = ((name, _problem(client, name, name.removeprefix(prefix))) for name in names)
    return [f"{name}: {problem}" for name, problem in problems if problem]


def delete_keys(client: Any, namespace: str) -> None:
    """Delete every key of *namespace*."""
    for key in client.scan_iter(match=f"{namespace}:*", count=1000):
        client.unlink(key)


def _problem(client: Any, name: str, local: str) -> str:
    """Return what is wrong with one key, empty if nothing is."""
    if _CONSUMERS.fullmatch(local):
        members = [member.decode() for member in client.zrange(name, 0, -1)]
        return f"consumers still registered: {', '.join(members)}" if members else ""
    ttl = client.pttl(name)
    if ttl != -1:  # has a TTL, or (-2) has just gone
        return ""
    if _STREAM.fullmatch(local):
        return _stream_problem(client, name)
    if any(re.fullmatch(pattern, local) for pattern in PERMANENT_KEYS):
        return ""
    return f"a {client.type(name).decode()} without TTL that is not in PERMANENT_KEYS"


def _stream_problem(client: Any, name: str) -> str:
    groups = client.xinfo_groups(name)
    pending = sum(group["pending"] for group in groups)
    entries = client.xlen(name)
    return f"{entries} entries left, {pending} pending" if entries or pending else ""
