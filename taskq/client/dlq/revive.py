"""The message that goes back into a queue: attempts counted anew, with its history."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from taskq.broker import scripts
from taskq.client.dlq.letter import DeadLetter
from taskq.values.message import Edit, Message, Meta, Replayed, encode, remembered


@dataclass(frozen=True, slots=True)
class NewArguments:
    """What a person wants a message to be called with instead; None leaves it as it is."""

    args: Sequence[Any] | None
    kwargs: Mapping[str, Any] | None
    actor: str


def revived(letter: DeadLetter, run: str, change: NewArguments | None = None, task: str | None = None) -> bytes:
    """The bytes of *letter*'s message for another life, which is counted in *run*.

    It remembers how it failed and, when its arguments change, what they were. *task* is its name from now on.

    Raises:
        SerializationError: a new argument has no wire form.
    """
    message = letter.message
    assert message is not None, "what is not a message cannot be replayed"
    old = message.meta or Meta()
    meta = msgspec.structs.replace(
        old,
        attempt=1,
        crashes=0,
        first=0,
        expires=0,
        unknown_since=0,
        due=0,
        replays=old.replays + 1,
        failures=remembered(old.failures, letter.last_failure),
        replayed=Replayed(run, letter.group),
    )
    args, kwargs = message.args, message.kwargs
    if change is not None:
        before = Edit(time.time_ns() // 1_000_000, change.actor, args, kwargs)
        meta.edits = remembered(old.edits, before)
        args = args if change.args is None else list(change.args)
        kwargs = kwargs if change.kwargs is None else dict(change.kwargs)
    return encode(Message(message.version, message.id, task or message.task, args, kwargs, meta))


def routed(letter: DeadLetter, message: bytes) -> tuple[str, bytes]:
    """Level and *message* of *letter* as scripts take them that put messages into a queue."""
    meta = (letter.message.meta if letter.message else None) or Meta()
    return scripts.routed(meta.priority, message, meta.ordering_key)
