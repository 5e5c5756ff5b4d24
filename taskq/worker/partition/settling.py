"""What a run came to, and how that is told to the settle script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from taskq.broker.scripts import RUN_TTL_MS
from taskq.broker.scripts.settling import (
    COMPLETE,
    Bury,
    Commit,
    Complete,
    CountReplay,
    DeadLetter,
    End,
    EndOfSchedule,
    FollowUp,
    FreeClaim,
    NextInLane,
    Release,
    Settle,
    Store,
)
from taskq.values.delivery import Delivery
from taskq.values.message import Meta, Replayed

_FINAL = (Complete, Commit, DeadLetter)
"""Ends after which the message does not come again."""
_WITHOUT_SUCCESS = frozenset({"FAILURE", "REVOKED", "EXPIRED"})
_COUNTED = {"SUCCESS": "succeeded", "FAILURE": "failed", "REVOKED": "other", "EXPIRED": "other", "SKIPPED": "other"}


class Together(msgspec.Struct, frozen=True, array_like=True, tag="batch"):
    """Not an end of its own: holds the outcomes of a batch's members."""

    outcomes: tuple[Any, ...]


class Outcome(NamedTuple):
    """What one run came to."""

    end: End | Together
    state: str
    """For hooks: SUCCESS, FAILURE, RETRY, REVOKED, EXPIRED, SKIPPED or RELEASED."""
    stored: bytes = b""
    """The packed outcome for whoever waits; empty for none."""
    ttl_ms: int = 1


DONE = Outcome(COMPLETE, "SUCCESS")
"""A success whose result nobody stores: shared, because it is by far the most common."""


_DONE = [["c"], "SUCCESS", b"", 1]
"""That, as it comes from a child process."""

BEGUN = Outcome(COMPLETE, "STARTED")
"""Settled before it runs: from here on it belongs to nobody's pending list."""


def restored(plain: list[Any]) -> Outcome:
    """The outcome that came as plain values from a child process.

    Raises:
        ValueError: it is not one.
    """
    if plain == _DONE:
        return DONE
    try:
        outcome = msgspec.convert(plain, Outcome)
    except msgspec.ValidationError as error:
        raise ValueError(f"not an outcome: {error}") from error
    return outcome._replace(end=COMPLETE) if isinstance(outcome.end, Complete) else outcome


def released(delivery: Delivery) -> Outcome:
    """Back to the front of the queue, nothing charged."""
    return Outcome(Release(delivery.crashes if delivery.suspect else None), "RELEASED")


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """One outcome that holds those of a batch's members."""
    return Outcome(Together(tuple(outcomes)), "BATCH")


Ended = tuple[Delivery, Outcome, float]
"""A delivery, its outcome, and the seconds it ran."""


def settles(batch: list[Ended], streams: Sequence[bytes]) -> tuple[list[Settle], list[tuple[int, list[bytes]]]]:
    """*batch* as :func:`taskq.broker.scripts.settling.settle` is told of it, in a call with these *streams*."""
    number = {stream: n for n, stream in enumerate(streams, 1)}
    plain: dict[bytes, list[bytes]] = {}
    settled: list[Settle] = []
    for delivery, outcome, ran in batch:
        meta = delivery.message.meta
        if meta is None:
            follow: Sequence[FollowUp] = ()
        else:
            follow = _follow_ups(delivery, meta, outcome, ran)
        if not follow and (outcome is DONE or outcome is BEGUN):
            entries = plain.get(delivery.stream)
            if entries is None:
                plain[delivery.stream] = [delivery.entry]
            else:
                entries.append(delivery.entry)
        else:
            end: Any = outcome.end
            if delivery.settled:
                end = _once_settled(delivery, end)
            stream, task_id = number[delivery.stream], delivery.message.task_id
            settled.append(Settle(stream, delivery.entry, task_id, end, follow, outcome.stored, outcome.ttl_ms))
    return settled, [(number[stream], entries) for stream, entries in plain.items()]


def _follow_ups(delivery: Delivery, meta: Meta, outcome: Outcome, ran: float) -> list[FollowUp]:
    """What happens with the end of a message that has more than arguments."""
    follow: list[FollowUp] = []
    if not isinstance(outcome.end, _FINAL):
        return follow
    if meta.replayed is not None and outcome is not BEGUN:
        follow += _count_replay(delivery, meta.replayed, outcome)
    if delivery.settled:  # the rest happened when that was
        return follow
    if meta.schedule is not None:
        follow.append(EndOfSchedule(meta.schedule, meta.fire_time, round(ran * 1000), outcome.state))
    if meta.ordering_key is not None:
        follow.append(NextInLane(meta.ordering_key))
    if meta.idempotency_key and outcome.state in _WITHOUT_SUCCESS:
        follow.append(FreeClaim(delivery.link.keys.claim(delivery.message.task, meta.idempotency_key)))
    return follow


def _once_settled(delivery: Delivery, end: End | Together) -> Store | Bury:
    """The end of what was settled before it ran."""
    key, number = delivery.link.stored_as(delivery)
    return Bury(key, number, end) if isinstance(end, DeadLetter) else Store(key, number)


def _count_replay(delivery: Delivery, replayed: Replayed, outcome: Outcome) -> list[FollowUp]:
    """How a replayed message ended, for the record of its replay; nothing when it has not ended."""
    word = _COUNTED.get(outcome.state)
    if word is None:
        return []
    if isinstance(outcome.end, DeadLetter) and outcome.end.fingerprint == replayed.group:
        word = "again"
    return [CountReplay(delivery.link.keys.dead_run(replayed.run), f"{word}:{replayed.group}", RUN_TTL_MS)]
