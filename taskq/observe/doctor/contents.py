"""Keys that nobody will remove, queues that no view shows, and messages that are too big."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import partial

from taskq.observe.doctor.finding import Finding, note, warning
from taskq.observe.doctor.patient import Patient
from taskq.values.durations import milliseconds

PAGE = 1000
MESSAGES_SAMPLED = 100
"""Messages looked at, per queue."""
BIG = 256 * 1024
"""Bytes of one message."""
EXPIRING = ("producer", "sent", "claim", "last", "result", "renewed", "waiting", "totals", "history")
"""Families of keys of a queue that always have a TTL: without one they would stay for ever."""


def check(patient: Patient) -> Iterator[Finding]:
    """Sample keys and messages."""
    yield from _orphans(patient)
    for name in patient.names:
        yield from _big(patient, name)


def _orphans(patient: Patient) -> Iterator[Finding]:
    shape = re.compile(rb"%b:\{([^{}]+)\}:([a-z]+)" % re.escape(patient.keys.namespace.encode()))
    marks: list[bytes] = []
    unlisted: set[bytes] = set()
    listed = set(patient.ask("SMEMBERS", patient.keys.queues))
    for page in patient.pages():
        found = [(key, match[1], match[2].decode()) for key in page if (match := shape.match(key))]
        full = [(key, queue) for key, queue, family in found if family == "stream" and queue not in listed]
        lengths = patient.ask_all([("XLEN", key) for key, _ in full])
        unlisted |= {queue for (_, queue), length in zip(full, lengths, strict=True) if length}
        unlisted |= {queue for _, queue, family in found if family in ("delayed", "dead")} - listed
        expiring = [key for key, _, family in found if family in EXPIRING]
        ttls = patient.ask_all([("PTTL", key) for key in expiring])
        marks += [key for key, ttl in zip(expiring, ttls, strict=True) if ttl == -1]
    if marks:
        by_family: dict[str, int] = defaultdict(int)
        for key in marks:
            by_family[key.split(b"}:", 1)[1].split(b":", 1)[0].decode()] += 1
        kinds = ", ".join(f"{count} {family}" for family, count in sorted(by_family.items()))
        yield warning(
            "contents.orphans",
            f"{len(marks)} keys that should expire have no TTL ({kinds}): they would stay for ever",
            "who copied them, or ran PERSIST? --fix gives them the time of a failure's result",
            partial(_expire, patient, marks),
        )
    if unlisted:
        names = sorted(name.decode(errors="replace") for name in unlisted)
        yield warning(
            "contents.unlisted",
            f"queues that no view shows, since {patient.keys.namespace}:queues has lost them: {', '.join(names[:10])}",
            "--fix lists them again",
            partial(patient.ask, "SADD", patient.keys.queues, *unlisted),
        )


def _expire(patient: Patient, marks: list[bytes]) -> None:
    ttl_ms = milliseconds(patient.config.failure_expires)
    for start in range(0, len(marks), PAGE):
        patient.ask_all([("PEXPIRE", key, ttl_ms) for key in marks[start : start + PAGE]])


def _big(patient: Patient, name: str) -> Iterator[Finding]:
    keys = patient.keys.queue(name)
    sizes = [
        len(field)
        for stream in [*patient.streams(keys), keys.dead]
        for _, fields in patient.ask("XREVRANGE", stream, "+", "-", "COUNT", MESSAGES_SAMPLED)
        for field in fields[1::2]
    ]
    sizes += [len(member) for member in patient.ask("ZRANGE", keys.delayed, 0, MESSAGES_SAMPLED - 1)]
    big = [size for size in sizes if size > BIG]
    if big:
        yield warning(
            "contents.big",
            f"queue {name}: {len(big)} of {len(sizes)} messages sampled are bigger than {BIG // 1024} KiB, the biggest "
            f"{max(big) / 1024:.0f} KiB",
            "keep big data elsewhere and send its id",
        )
    elif sizes and max(sizes) > BIG // 4:
        yield note(
            "contents.big",
            f"queue {name}: the biggest of {len(sizes)} messages sampled has {max(sizes) / 1024:.0f} KiB",
            "keep big data elsewhere and send its id",
        )
