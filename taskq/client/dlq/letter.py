"""The dead letter as a value: the message's bytes as they were, and the evidence of its failures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property

import msgspec

from taskq.broker.scripts import settling
from taskq.client.dlq.fingerprint import fingerprint
from taskq.errors import DecodeError
from taskq.values.durations import moment
from taskq.values.message import Edit, Failure, Message, decode

OTHER = "other"
"""The group of what came when there were a thousand groups already."""
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


def buried(data: bytes, task: str, evidence: Evidence) -> settling.DeadLetter:
    """The end of a message that becomes a dead letter."""
    label = Label(task, evidence.reason, evidence.error_type, evidence.error[:LABEL_TEXT])
    return settling.DeadLetter(data, pack_evidence(evidence), fingerprint_of(task, evidence), _encode(label))


class _Last(msgspec.Struct):
    """What a history keeps of the evidence; the traceback is skipped."""

    error_type: str = ""
    error: str = ""
    attempts: int = 0
    worker: str = ""
    died_at: int = 0


_decode_last = msgspec.msgpack.Decoder(_Last).decode


class DeadLetter(msgspec.Struct, frozen=True, dict=True):
    """One message that failed for good. Its parts are decoded when they are asked for."""

    queue: str
    entry: str
    """Its id in the dead letter queue."""
    data: bytes
    """The message's bytes as they were."""
    raw_evidence: bytes = b""
    """The evidence's bytes as they are stored."""
    group: str = ""
    """The group that it is counted in; empty when in none."""

    def __repr__(self) -> str:
        told = f"queue={self.queue!r}, entry={self.entry!r}, message={self.message!r}, evidence={self.evidence!r}"
        return f"DeadLetter({told}, group={self.group!r})"

    @cached_property
    def message(self) -> Message | None:
        """None when the bytes are no message (malformed)."""
        try:
            return decode(self.data)
        except DecodeError:
            return None

    @cached_property
    def evidence(self) -> Evidence:
        """How it failed; what cannot be read says so."""
        return unpack_evidence(self.raw_evidence)

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
        return moment(self.evidence.died_at)

    @property
    def entered_at(self) -> datetime:
        """When it came into the dead letter queue, by Redis's clock."""
        return moment(int(self.entry.partition("-")[0]))

    @property
    def replays(self) -> int:
        """How many times it came back from here before."""
        message = self.message
        return message.meta.replays if message and message.meta else 0

    @property
    def fingerprint(self) -> str:
        """What failures of the same kind have in common."""
        return fingerprint_of(self.task, self.evidence)

    @property
    def last_failure(self) -> Failure:
        """What a history keeps of the failure that the evidence is about."""
        try:
            last: _Last | Evidence = _decode_last(self.raw_evidence)
        except msgspec.DecodeError:
            last = self.evidence
        error = last.error[:LABEL_TEXT]
        return Failure(self.replays, last.attempts, last.died_at, last.error_type, error, last.worker, final=True)

    @property
    def failures(self) -> list[Failure]:
        """Every failed attempt that is remembered, oldest first; the last one is what the evidence is about."""
        meta = self.message.meta if self.message else None
        return [*((meta.failures if meta else None) or ()), self.last_failure]

    @property
    def edits(self) -> list[Edit]:
        """The arguments that it had before a person changed them, oldest first."""
        meta = self.message.meta if self.message else None
        return list((meta.edits if meta else None) or ())


def read_letter(queue: str, entry: bytes, fields: Sequence[bytes]) -> DeadLetter:
    """The dead letter in an entry of *queue*, whatever its bytes are."""
    if len(fields) == 6 and fields[0] == b"m" and fields[2] == b"i" and fields[4] == b"g":
        _, data, _, evidence, _, group = fields
    else:
        stored = dict(zip(fields[::2], fields[1::2], strict=False))
        data, evidence, group = (stored.get(name, b"") for name in (b"m", b"i", b"g"))
    return DeadLetter(queue, entry.decode(), data, evidence, group.decode("ascii", "replace"))
