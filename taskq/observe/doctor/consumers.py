"""Groups and consumers without life, and deliveries that do not end."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from taskq.broker import scripts
from taskq.broker.keys import GROUP, QueueKeys
from taskq.errors import BrokerError
from taskq.observe.doctor.finding import Finding, error, warning
from taskq.observe.doctor.patient import Patient
from taskq.values.config import is_fifo

LONG_MS = 3_600_000
"""How long a delivery may take."""
MOST_SHOWN = 5


def check(patient: Patient) -> Iterator[Finding]:
    """Compare the groups' consumers with the leases."""
    for name in patient.names:
        keys = patient.keys.queue(name)
        leases = patient.ask("ZRANGE", keys.consumers, 0, -1, "WITHSCORES")
        deadlines = {member: float(score) for member, score in zip(leases[::2], leases[1::2], strict=True)}
        yield from _late(patient, keys, deadlines)
        for stream in patient.streams(keys):
            yield from _leftover(patient, keys, stream, deadlines)
            yield from _long(patient, keys, stream)


def _late(patient: Patient, keys: QueueKeys, deadlines: dict[bytes, float]) -> Iterator[Finding]:
    late = [name for name, deadline in deadlines.items() if deadline < patient.now_ms]
    alive = len(deadlines) - len(late)
    if late and not alive:
        yield error(
            "consumers.dead",
            f"queue {keys.queue}: {len(late)} {_readers(keys)} died, and none is alive to take over what they held",
            "start one" if is_fifo(keys.queue) else f"start one: taskq worker -A ... -Q {keys.queue}",
        )
    elif any(0 < deadlines[name] < patient.now_ms - 60_000 for name in late):  # 0: its recovery has begun
        yield warning(
            "consumers.dead",
            f"queue {keys.queue}: one of its {_readers(keys)} died more than a minute ago, and the others have not "
            "taken over",
            "look at their logs: they may be unable to run scripts",
        )


def _readers(keys: QueueKeys) -> str:
    return "consumers" if is_fifo(keys.queue) else "workers"


def _leftover(patient: Patient, keys: QueueKeys, stream: bytes, deadlines: dict[bytes, float]) -> Iterator[Finding]:
    try:
        rows = patient.ask("XINFO", "CONSUMERS", stream, GROUP)
    except BrokerError:
        return  # no group yet: no worker was ever here
    empty, holding = [], 0
    for row in rows:
        consumer: dict[bytes, Any] = dict(zip(row[::2], row[1::2], strict=True))
        name = consumer[b"name"]
        if any(mark in deadlines for mark in (name, b"!0" + name, b"!1" + name)):
            continue
        if consumer[b"pending"]:
            holding += consumer[b"pending"]
        else:
            empty.append(name)
    if empty:
        yield warning(
            "consumers.leftover",
            f"queue {keys.queue}: {len(empty)} consumers of {_text(stream)} have no lease and hold nothing",
            "they only cost memory; --fix removes them",
            partial(_forget, patient, keys, stream, empty),
        )
    if holding:
        yield warning(
            "consumers.orphaned",
            f"queue {keys.queue}: {holding} deliveries of {_text(stream)} belong to consumers without a lease",
            "a running worker finds them within a minute or two; start one",
        )


def _long(patient: Patient, keys: QueueKeys, stream: bytes) -> Iterator[Finding]:
    rows = patient.ask_all([("XPENDING", stream, GROUP, "IDLE", LONG_MS, "-", "+", MOST_SHOWN)])[0]
    if isinstance(rows, list) and rows:
        holders = ", ".join(sorted({_text(row[1]) for row in rows}))
        yield warning(
            "consumers.stuck",
            f"queue {keys.queue}: {len(rows)}{' or more' if len(rows) == MOST_SHOWN else ''} deliveries take longer"
            f" than an hour, the longest {max(row[2] for row in rows) / LONG_MS:.1f} h, at {holders}",
            "see taskq workers --running; give the task a time_limit, or stop it: taskq tasks revoke ID",
        )


def _forget(patient: Patient, keys: QueueKeys, stream: bytes, consumers: list[bytes]) -> None:
    for name in consumers:
        patient.run(scripts.forget(keys, stream, name))


def _text(name: bytes) -> str:
    return name.decode(errors="replace")
