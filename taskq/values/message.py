"""The message: one call of a task, and its wire form (version 1, see ``docs/wire-format.md``).

A message is the MessagePack array ``[version, id, task, args, kwargs, meta]``; ``meta`` is a map that holds
only what differs from the defaults, so that an ordinary call costs about 30 bytes beyond its arguments.
Unknown keys in ``meta`` are ignored, which lets a newer producer talk to an older worker.
"""

from __future__ import annotations

import os
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import msgspec

from taskq.errors import ConfigError, DecodeError
from taskq.values.checks import shown
from taskq.values.durations import LATEST_MS
from taskq.values.serialization import pack_special, unpack_special, unserializable

WIRE_VERSION = 1
MAX_ID_LENGTH = 200
ID_BYTES = 16
DEFAULT_PRIORITY = 5
"""Of 0 to 9; a higher number is sooner."""


class TaskState(StrEnum):
    """Where a message is in its life."""

    UNKNOWN = "UNKNOWN"
    """No trace of this id: never sent, or its result has expired (or was not kept)."""
    UNTRACED = "UNTRACED"
    """No trace of this id among the messages that were looked at: there are too many to look at all of them."""
    SCHEDULED = "SCHEDULED"
    """Delayed: waits for its time."""
    PENDING = "PENDING"
    """In its queue."""
    STARTED = "STARTED"
    """Delivered to a worker."""
    RETRY = "RETRY"
    """Failed, will run again."""
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    """Failed for good; it is in the dead letter queue."""
    REVOKED = "REVOKED"
    EXPIRED = "EXPIRED"
    SKIPPED = "SKIPPED"
    """Not run: another message has its idempotency key."""

    @property
    def final(self) -> bool:
        """Whether nothing further happens to the message by itself."""
        return self in _FINAL


_FINAL = frozenset({TaskState.SUCCESS, TaskState.FAILURE, TaskState.REVOKED, TaskState.EXPIRED, TaskState.SKIPPED})


MOST = 1_000_000_000
"""Of what a message counts."""
# Held to when a message is decoded: what none of our producers writes is not a message, and goes to the dead letters.
Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
Instant = Annotated[int, msgspec.Meta(ge=0, le=LATEST_MS)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=LATEST_MS / 1000)]


class Failure(msgspec.Struct, array_like=True, frozen=True):
    """One failed attempt, kept short: what a message tells of the runs before its present one."""

    replay: Count
    """How many times it had come back from the dead letter queue."""
    attempt: Count
    at: Instant
    """Epoch milliseconds of its end."""
    error_type: str
    error: str
    worker: str
    final: bool = False
    """Whether it made the message a dead letter."""


class Edit(msgspec.Struct, array_like=True, frozen=True):
    """The arguments that a message had before a person changed them in the dead letter queue."""

    at: Instant
    """Epoch milliseconds of the change."""
    actor: str
    args: list[Any]
    kwargs: dict[str, Any]


class Replayed(msgspec.Struct, array_like=True, frozen=True):
    """Which replay a message came back in, so that its end is counted there."""

    run: str
    group: str
    """The fingerprint of the failure that it came back from."""


HISTORY = 5
"""Most failures, and most edits, that travel with a message."""
H = TypeVar("H", Failure, Edit)


def remembered(history: list[H] | None, latest: H) -> list[H]:
    """*history* with *latest* at its end; beyond :data:`HISTORY` the first and the last are kept."""
    known: list[H] = [*(history or ()), latest]
    return known if len(known) <= HISTORY else known[:1] + known[1 - HISTORY :]


class Meta(msgspec.Struct, omit_defaults=True, gc=False):
    """What travels beside the arguments. The wire names are one or two letters; defaults are not written."""

    attempt: Annotated[int, msgspec.Meta(ge=1, le=MOST)] = msgspec.field(default=1, name="a")
    """Which run against the retry policy this is, from 1."""
    crashes: Count = msgspec.field(default=0, name="c")
    """How many times a worker died while it ran this message, before its last retry."""
    priority: Annotated[int, msgspec.Meta(ge=0, le=9)] = msgspec.field(default=DEFAULT_PRIORITY, name="p")
    expires: Instant = msgspec.field(default=0, name="x")
    """Epoch milliseconds after which the message must not start; 0 is never."""
    first: Instant = msgspec.field(default=0, name="f")
    """Epoch milliseconds of the first attempt's start; 0 on the first attempt."""
    due: Instant = msgspec.field(default=0, name="d")
    """Epoch milliseconds of the time asked for with countdown or eta; 0 is at once."""
    replays: Count = msgspec.field(default=0, name="r")
    """How many times it came back from the dead letter queue."""
    unknown_since: Instant = msgspec.field(default=0, name="u")
    """Epoch milliseconds when a worker first did not know the task's name."""
    max_retries: int | None = msgspec.field(default=None, name="m")
    ignore_result: bool | None = msgspec.field(default=None, name="i")
    soft_time_limit: Seconds | None = msgspec.field(default=None, name="s")
    time_limit: Seconds | None = msgspec.field(default=None, name="t")
    headers: dict[str, Any] | None = msgspec.field(default=None, name="h")
    idempotency_key: str | None = msgspec.field(default=None, name="k")
    ordering_key: str | None = msgspec.field(default=None, name="l")
    """Messages of one such key run one after the other, in the order in which they came into the queue."""
    failures: list[Failure] | None = msgspec.field(default=None, name="e")
    """The failed attempts before this one, oldest first: the first and the latest few."""
    edits: list[Edit] | None = msgspec.field(default=None, name="o")
    """The arguments that it had before, oldest first."""
    replayed: Replayed | None = msgspec.field(default=None, name="b")
    schedule: str | None = msgspec.field(default=None, name="n")
    """The schedule that sent it."""
    fire_time: Instant = msgspec.field(default=0, name="w")
    """Epoch milliseconds of the fire time that it was sent for."""


PLAIN = Meta()
"""The meta of an ordinary message; shared, so never changed in place."""


if TYPE_CHECKING:
    WireId: TypeAlias = bytes | str
else:
    # msgspec refuses a union of two text-like types; decode() checks instead
    WireId = Any


class Message(msgspec.Struct, array_like=True):
    """One call of a task, as sent."""

    version: int
    id: WireId
    """16 bytes (milliseconds and 80 random bits, as in UUID version 7) or the caller's own text."""
    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    meta: Meta | None = None

    @property
    def task_id(self) -> str:
        """The id as users see it: 32 hexadecimal digits, or the text they gave."""
        raw = self.id
        return raw if isinstance(raw, str) else raw.hex()


_encode = msgspec.msgpack.Encoder(enc_hook=pack_special).encode
_decode = msgspec.msgpack.Decoder(Message, ext_hook=unpack_special).decode


def new_id() -> bytes:
    """A fresh id that sorts by time: 48 bits of epoch milliseconds, 80 random bits (cf. RFC 9562, 5.7)."""
    return (time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(10)


def wire_id(task_id: str) -> bytes | str:
    """The wire form of an id that a user holds: our own ids as 16 bytes, anything else as it is."""
    if len(task_id) == 32:
        try:
            raw = bytes.fromhex(task_id)
        except ValueError:
            return task_id
        # only the canonical text may fold, or two different ids would become one
        return raw if raw.hex() == task_id else task_id
    return task_id


def id_on_wire(task_id: str) -> bytes:
    """The id as it stands in a message, encoded."""
    return msgspec.msgpack.encode(wire_id(task_id))


def check_id(task_id: object, what: str = "task_id") -> str:
    """Return *task_id* if it can be one; *what* names it in the error.

    Raises:
        ConfigError: empty, too long, or with characters that do not print.
    """
    if not isinstance(task_id, str) or not 0 < len(task_id) <= MAX_ID_LENGTH or not task_id.isprintable():
        raise ConfigError(f"{what} must be 1 to {MAX_ID_LENGTH} printable characters, not {shown(task_id)}")
    return task_id


def encode(message: Message) -> bytes:
    """The wire form of *message*.

    Raises:
        SerializationError: an argument has no wire form.
    """
    try:
        return _encode(message)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise unserializable(f"an argument of {message.task}", error) from error


def decode(data: bytes) -> Message:
    """The message in *data*.

    Raises:
        DecodeError: the bytes are no message, or of a wire version this release does not know.
    """
    try:
        message = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"not a taskq message: {error}", data) from error
    if message.version != WIRE_VERSION:
        raise DecodeError(f"wire version {message.version} is not known to this release", data)
    if not isinstance(message.id, str) and not (isinstance(message.id, bytes) and len(message.id) == ID_BYTES):
        raise DecodeError(f"not a taskq message: its id is neither text nor {ID_BYTES} bytes", data)
    return message
