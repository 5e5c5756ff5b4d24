"""Typed builders for the scripts of batch jobs; as :mod:`taskq.broker.scripts` for those of queues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taskq.broker.calls import Arg, Call, load
from taskq.broker.keys import FRONT, QueueKeys

OPEN = load("open")
CHECKPOINT = load("checkpoint")


@dataclass(frozen=True, slots=True)
class Holder:
    """The delivery of a job's message, as the scripts prove it."""

    keys: QueueKeys
    consumer: bytes
    stream: bytes
    entry: bytes
    task_id: str


def open_window(holder: Holder, job: str, window: str, from_ms: int | None, to_ms: int | None) -> Call:
    """Begin a run or go on with it; see ``lua/open.lua`` for the answer."""
    keys = holder.keys
    streams = [keys.stream(level) for level in (FRONT, *range(10))]
    number = streams.index(holder.stream) + 1
    bounds = ("" if value is None else value for value in (from_ms, to_ms))
    return Call(
        OPEN,
        (keys.consumers, keys.job(job), *streams),
        (holder.consumer, number, holder.entry, holder.task_id, window, *bounds),
    )


def checkpoint(holder: Holder, job: str, pairs: Sequence[Arg]) -> Call:
    """How far a run has come; *pairs* alternates field and value; answers 1, or 0 when it is not ours any more."""
    keys = holder.keys
    return Call(
        CHECKPOINT,
        (keys.consumers, keys.job(job), holder.stream),
        (holder.consumer, holder.entry, holder.task_id, *pairs),
    )
