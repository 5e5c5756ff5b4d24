"""The dead letter as a value: the message's bytes as they were, and the evidence of its failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from taskq.broker.scripts import Arg
from taskq.dlq.fingerprint import fingerprint
from taskq.errors import DecodeError
from taskq.message import Edit, Failure, Message, decode

LABEL_TEXT = 200
"""Longest error text in a group's label, in characters."""


class Evidence(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is known of a final failure."""

    error_type: str = ""
    error: str = ""
    traceback: str = ""
    reason: str = ""
    """Why it is here: ``failed``, ``rejected``, ``crashed``, ``malformed``, ``unknown task``."""
    attempts: int = 0
    crashes: int = 0
    exit_code: int | None = None
    """How the child process ended that ran it; below zero: killed by that signal."""
    rss_bytes: int = 0
    """Most memory that child had used when the message began; 0 when unknown."""
    started_at: int = 0
    """Epoch milliseconds when its last run began; 0 when unknown."""
    worker: str = ""
    """Host, process and consumer that saw the end."""
    died_at: int = 0
    """Epoch milliseconds."""
    first_at: int = 0
    """Epoch milliseconds of the first attempt; 0 when unknown."""


class Label(msgspec.Struct, array_like=True, frozen=True):
    """What a group of dead letters shows of its latest one."""

    task: str = ""
    reason: str = ""
    error_type: str = ""
    error: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode_evidence = msgspec.msgpack.Decoder(Evidence).decode
_decode_label = msgspec.msgpack.Decoder(Label).decode


def pack_evidence(evidence: Evidence) -> bytes:
    """The stored form."""
    return _encode(evidence)


def unpack_evidence(data: bytes) -> Evidence:
    """The evidence in *data*; what cannot be read says so, since a view must show the rest."""
    try:
        return _decode_evidence(data)
    except msgspec.DecodeError:
        return Evidence(reason="malformed", error="the evidence cannot be read")


def unpack_label(data: bytes) -> Label:
    """The label in *data*; an empty one when it cannot be read."""
    try:
        return _decode_label(data)
    except msgspec.DecodeError:
        return Label()


def fingerprint_of(task: str, evidence: Evidence) -> str:
    """The fingerprint of a failure of *task*."""
    return fingerprint(task, evidence.reason, evidence.error_type, evidence.error, evidence.traceback)


def buried(data: bytes, task: str, evidence: Evidence) -> tuple[Arg, ...]:
    """What a script is told of a new dead letter: message, evidence, fingerprint, label of its group."""
    label = Label(task, evidence.reason, evidence.error_type, evidence.error[:LABEL_TEXT])
    return data, pack_evidence(evidence), fingerprint_of(task, evidence), _encode(label)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message that failed for good."""

    queue: str
    entry: str
    """Its id in the dead letter queue."""
    data: bytes = field(repr=False)
    """The message's bytes as they were."""
    message: Message | None
    """None when the bytes are no message (malformed)."""
    evidence: Evidence
    raw_evidence: bytes = field(default=b"", repr=False, compare=False)
    """The evidence's bytes as they are stored."""
    group: str = ""
    """The group that it is counted in; empty when in none."""

    @property
    def task_id(self) -> str:
        """The task id; empty when malformed."""
        return self.message.task_id if self.message else ""

    @property
    def task(self) -> str:
        """The task's name; empty when malformed."""
        return self.message.task if self.message else ""

    @property
    def died_at(self) -> datetime:
        """When it failed for good, by the clock of the worker that saw it."""
        return datetime.fromtimestamp(self.evidence.died_at / 1000, UTC)

    @property
    def entered_at(self) -> datetime:
        """When it came into the dead letter queue, by Redis's clock."""
        return datetime.fromtimestamp(int(self.entry.partition("-")[0]) / 1000, UTC)

    @property
    def replays(self) -> int:
        """How many times it came back from here before."""
        return self.message.meta.replays if self.message and self.message.meta else 0

    @property
    def fingerprint(self) -> str:
        """What failures of the same kind have in common."""
        return fingerprint_of(self.task, self.evidence)

    @property
    def failures(self) -> list[Failure]:
        """Every failed attempt that is remembered, oldest first; the last one is what the evidence is about."""
        evidence, meta = self.evidence, self.message.meta if self.message else None
        last = Failure(
            self.replays,
            evidence.attempts,
            evidence.died_at,
            evidence.error_type,
            evidence.error[:LABEL_TEXT],
            evidence.worker,
            final=True,
        )
        return [*((meta.failures if meta else None) or ()), last]

    @property
    def edits(self) -> list[Edit]:
        """The arguments that it had before a person changed them, oldest first."""
        meta = self.message.meta if self.message else None
        return list((meta.edits if meta else None) or ())


def read_letter(queue: str, entry: bytes, fields: Sequence[bytes]) -> DeadLetter:
    """The dead letter in an entry of *queue*, whatever its bytes are."""
    stored: dict[bytes, Any] = dict(zip(fields[::2], fields[1::2], strict=False))
    data = stored.get(b"m", b"")
    try:
        message: Message | None = decode(data)
    except DecodeError:
        message = None
    raw = stored.get(b"i", b"")
    group = stored.get(b"g", b"").decode("ascii", "replace")
    return DeadLetter(queue, entry.decode(), data, message, unpack_evidence(raw), raw, group)
