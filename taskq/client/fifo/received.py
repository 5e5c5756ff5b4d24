"""What a FIFO holds, as it is put and as it is received; and how a receipt ends, as scripts are told."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from taskq.broker.keys import QueueKeys
from taskq.broker.scripts import RUN_TTL_MS
from taskq.broker.scripts.settling import COMPLETE, CountReplay, End, FollowUp, Release, Settle
from taskq.client.dlq.letter import Evidence, buried
from taskq.errors import DecodeError, SerializationError
from taskq.values.delivery import contents
from taskq.values.message import WIRE_VERSION, Message, decode, encode, new_id
from taskq.values.serialization import unserializable

ITEM = "taskq.item"
"""The task name in the message that carries an item: so views and dead letters show items like all else."""


def packed(value: Any) -> tuple[str, bytes]:
    """The id and the bytes of a new item.

    Raises:
        SerializationError: the value has no wire form.
    """
    message = Message(WIRE_VERSION, new_id(), ITEM, [value], {})
    try:
        return message.task_id, encode(message)
    except SerializationError as error:
        raise unserializable("an item of a FIFO", error.__cause__ or error) from error


class Received:
    """One item in the hands of one consumer."""

    __slots__ = ("consumer", "crashes", "data", "entry", "id", "level", "replayed", "suspect", "value")

    def __init__(self, consumer: bytes, level: int, entry: bytes, fields: Sequence[bytes]) -> None:
        """Raises :class:`DecodeError` when the entry is not an item of a FIFO."""
        data, crashes = contents(fields)
        message = decode(data)
        if message.task != ITEM or len(message.args) != 1:
            raise DecodeError(f"not an item of a FIFO: a message of task {message.task!r}", data)
        self.consumer = consumer
        """The name under which it was received: only that one may settle it."""
        self.level = level
        """Its stream, counted from 1 in the order in which they are read."""
        self.entry = entry
        self.data = data
        self.id = message.task_id
        self.value = message.args[0]
        self.suspect = crashes is not None
        """Whether it was in the hands of a consumer that died."""
        self.replayed = message.meta.replayed if message.meta else None
        self.crashes = crashes or 0
        """How many of them died."""

    def acknowledged(self, keys: QueueKeys) -> Settle:
        """Done."""
        return self._settle(COMPLETE, self._counted(keys, "succeeded"))

    def released(self) -> Settle:
        """Back to the front of the FIFO, nothing charged."""
        return self._settle(Release(self.crashes if self.suspect else None))

    def dead(self, keys: QueueKeys, reason: str, error_type: str, error: str) -> Settle:
        """To the dead letter queue, with why."""
        evidence = Evidence(
            error_type=error_type,
            error=error,
            reason=reason,
            crashes=self.crashes,
            worker=self.consumer.decode(),
            died_at=_now_ms(),
        )
        letter = buried(self.data, ITEM, evidence)
        same = self.replayed is not None and letter.fingerprint == self.replayed.group
        return self._settle(letter, self._counted(keys, "again" if same else "failed"))

    def _settle(self, end: End, follow: Sequence[FollowUp] = ()) -> Settle:
        return Settle(self.level, self.entry, self.id, end, follow)

    def _counted(self, keys: QueueKeys, word: str) -> Sequence[FollowUp]:
        """How it ended, for the record of the replay that it came back in."""
        if self.replayed is None:
            return ()
        return (CountReplay(keys.dead_run(self.replayed.run), f"{word}:{self.replayed.group}", RUN_TTL_MS),)


def malformed(consumer: bytes, level: int, entry: bytes, fields: Sequence[bytes], error: DecodeError) -> Settle:
    """What is not an item, to the dead letter queue with its bytes."""
    data = error.data if fields[0] == b"m" else b"\0".join(fields)
    evidence = Evidence(
        error_type="DecodeError", error=str(error), reason="malformed", worker=consumer.decode(), died_at=_now_ms()
    )
    return Settle(level, entry, "malformed", buried(data, "", evidence))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
