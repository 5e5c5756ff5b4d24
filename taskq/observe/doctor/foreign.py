"""What somebody else wrote under our names: keys of another type, names that are not priority levels."""

from __future__ import annotations

import re
from collections.abc import Iterator

from taskq.broker.views.inspect import check_levels
from taskq.observe.doctor.finding import Finding, error, warning
from taskq.observe.doctor.patient import Patient

TYPES = {
    "string": (
        *(
            "{q}:renewed",
            "{q}:producer:",
            "{q}:sent:",
            "{q}:claim:",
            "{q}:result:",
            "{q}:stored:",
            "{q}:mover:",
            "{q}:paused",
        ),
        *("worker:", "{schedules}:number", "{t/}:sent:"),
    ),
    "list": ("{q}:parked:", "{q}:ended:well", "{q}:ended:otherwise", "{q}:held:", "{q}:lane:"),
    "set": ("{q}:levels", "{q}:limited", "{q}:holding", "queues", "topics"),
    "zset": (
        *("{q}:delayed", "{q}:dead:runs", "{q}:consumers", "{q}:last:", "{q}:revoked", "{q}:permits:"),
        "{schedules}:beats",
    ),
    "hash": (
        *("{q}:dead:groups", "{q}:dead:run:", "{q}:waiting", "{q}:job:", "{q}:totals", "{q}:history", "{q}:schedule:"),
        *("{schedules}:defined", "{schedules}:revision", "{schedules}:seen", "{q}:lanes", "{t/}:topic"),
    ),
    "stream": ("{schedules}:changes", "{q}:stream:", "{q}:dead", "{q}:fires:", "audit", "{t/}:events"),
}
"""Type -> the keys that have it, without the namespace; one that ends with a colon goes on with a name."""
_QUEUE = r"(?:\{[^{}/]+\}|\{[^{}/]+/\}:[^:]+)"
PAGE = 1000
MOST_SHOWN = 5


def check(patient: Patient) -> Iterator[Finding]:
    """Compare the types of keys with the data model, and look at the levels of each queue."""
    patterns = [(kind, _pattern(patient.keys.namespace, keys)) for kind, keys in TYPES.items()]
    foreign: list[str] = []
    for page in patient.pages():
        wanted = [(key, kind) for key in page if (kind := _type_of(key, patterns)) is not None]
        found = patient.ask_all([("TYPE", key) for key, _ in wanted])
        foreign += [
            f"{key.decode(errors='replace')} (a {has.decode()} instead of a {kind})"
            for (key, kind), has in zip(wanted, found, strict=True)
            if isinstance(has, bytes) and has.decode() not in (kind, "none")
        ]
    if foreign:
        more = f", and {len(foreign) - MOST_SHOWN} more" if len(foreign) > MOST_SHOWN else ""
        yield error(
            "foreign.type",
            f"keys of another type than taskq gives them: {', '.join(sorted(foreign)[:MOST_SHOWN])}{more}",
            "find out who writes there; then move or delete them: what belongs there cannot be stored until then",
        )
    yield from _levels(patient)


def _levels(patient: Patient) -> Iterator[Finding]:
    replies = patient.ask_all([("SMEMBERS", patient.keys.queue(name).levels) for name in patient.names])
    for name, members in zip(patient.names, replies, strict=True):
        if isinstance(members, list) and (strange := len(members) - len(check_levels(members))):
            yield warning(
                "foreign.levels",
                f"queue {name}: {strange} names that are not priority levels; workers pass over them",
                f"SREM {patient.keys.queue(name).levels.decode()} with those that are not 0 to 9",
            )


def _pattern(namespace: str, keys: tuple[str, ...]) -> re.Pattern[bytes]:
    forms = []
    for key in keys:
        form = re.escape(key).replace(r"\{q\}", _QUEUE).replace(r"\{t/\}", r"\{[^{}/]+/\}")
        forms.append(form + (".+" if key.endswith(":") else ""))
    return re.compile(rf"{re.escape(namespace)}:(?:{'|'.join(forms)})".encode(), re.DOTALL)


def _type_of(key: bytes, patterns: list[tuple[str, re.Pattern[bytes]]]) -> str | None:
    return next((kind for kind, pattern in patterns if pattern.fullmatch(key)), None)
