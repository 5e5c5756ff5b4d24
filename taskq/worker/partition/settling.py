"""How a delivery ends, as the settle script is told. One place builds what it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from taskq.broker.calls import Arg
from taskq.broker.scripts import RUN_TTL_MS
from taskq.values.delivery import Delivery
from taskq.values.message import DEFAULT_PRIORITY, Replayed

COMPLETE, COMMIT, RETRY, DEAD_LETTER, RELEASE = "c", "t", "r", "d", "l"
GIVE_UP = "k"
"""Not an end of its own: gives an idempotency key free together with the item after it."""
OVER = "o"
"""Not an end either: tells the schedule that sent the message what the item after it does."""
_KINDS = frozenset({COMPLETE, COMMIT, RETRY, DEAD_LETTER, RELEASE, "batch"})
_ENDS = frozenset({COMPLETE, COMMIT, DEAD_LETTER})
NOTE = "n"
"""Not an end either: counts the end of a replayed message in the record of its replay."""
NEXT = "q"
"""Not an end of its own either: lets the ordering key's next message into the queue with the item after it."""
_WITHOUT_SUCCESS = frozenset({"FAILURE", "REVOKED", "EXPIRED"})
STORE, BURY = "s", "e"
"""For what was settled before it ran: only its outcome is stored, only a dead letter written."""
BATCH = "batch"
"""Not for the script: ``extra`` holds the outcomes of a batch's members."""
_ONCE_SETTLED = {COMPLETE: STORE, DEAD_LETTER: BURY}


class Outcome(NamedTuple):
    """What one run came to."""

    kind: str
    """One of the kinds of ``lua/settle.lua``."""
    state: str
    """For hooks: SUCCESS, FAILURE, RETRY, REVOKED, EXPIRED, SKIPPED or RELEASED."""
    stored: bytes = b""
    """The packed outcome for whoever waits; empty for none."""
    ttl_ms: int = 1
    extra: tuple[Any, ...] = ()
    """What the kind needs besides: see ``lua/settle.lua``."""


DONE = Outcome(COMPLETE, "SUCCESS")
"""A success whose result nobody stores: shared, because it is by far the most common."""


BEGUN = Outcome(COMPLETE, "STARTED")
"""Settled before it runs: from here on it belongs to nobody's pending list."""


def restored(kind: str, state: str, stored: bytes, ttl_ms: int, extra: Sequence[Any]) -> Outcome:
    """The outcome that came as plain values from a child process.

    Raises:
        ValueError: it cannot be settled.
    """
    if kind == COMPLETE and not stored:
        return DONE
    if kind not in _KINDS or not isinstance(stored, bytes) or not isinstance(ttl_ms, int):
        raise ValueError(f"not an outcome: {kind!r:.100}")
    return Outcome(kind, state, stored, ttl_ms, tuple(extra))


def released(delivery: Delivery) -> Outcome:
    """Back to the front of the queue, nothing charged."""
    return Outcome(RELEASE, "RELEASED", extra=(delivery.crashes if delivery.suspect else "",))


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """One outcome that holds those of a batch's members."""
    return Outcome(BATCH, "BATCH", extra=tuple(outcomes))


Ended = tuple[Delivery, Outcome, float]
"""A delivery, its outcome, and the seconds it ran."""


def _in_lane(kind: str, extra: tuple[Arg, ...]) -> tuple[str, tuple[Arg, ...]]:
    """A completion as a commit without commands: of those the script knows, one by one, whether they were ours."""
    return (COMMIT, (0,)) if kind == COMPLETE else (kind, extra)


def _next_of_lane(delivery: Delivery, number: int) -> tuple[Arg, ...]:
    meta = delivery.message.meta
    assert meta is not None
    assert meta.ordering_key is not None
    return (NEXT, number, delivery.entry, delivery.message.task_id, b"", 1, meta.ordering_key)


def settle_arguments(batch: list[Ended], streams: Sequence[bytes]) -> tuple[list[Arg], int, list[Arg]]:
    """The runs, their number and the items of ``lua/settle.lua`` for *batch*, in a call with these *streams*."""
    number = {stream: n for n, stream in enumerate(streams, 1)}
    plain: dict[bytes, list[Arg]] = {}
    items: list[Arg] = []
    for delivery, outcome, ran in batch:
        meta = delivery.message.meta
        replayed, in_lane = (None, False) if meta is None else (meta.replayed, meta.ordering_key is not None)
        if replayed is not None and outcome is not BEGUN:
            items += _note(delivery, outcome, replayed, number[delivery.stream])
        plain_end = (outcome is DONE and replayed is None) or (outcome is BEGUN and not _scheduled(delivery))
        if plain_end and not in_lane:
            entries = plain.get(delivery.stream)
            if entries is None:
                plain[delivery.stream] = [delivery.entry]
            else:
                entries.append(delivery.entry)
        else:
            kind, state, stored, ttl_ms, extra = outcome
            if kind in _ENDS and _scheduled(delivery):
                items += (OVER, number[delivery.stream], delivery.entry, delivery.message.task_id, b"", 1)
                items += _told_to_schedule(delivery, state, ran)
            if delivery.settled:
                kind, extra = _ONCE_SETTLED[kind], (*extra, *delivery.link.stored_as(delivery))
            if in_lane and not delivery.settled:
                kind, extra = _in_lane(kind, extra)
                items += _next_of_lane(delivery, number[delivery.stream])
            if meta is not None and meta.idempotency_key and state in _WITHOUT_SUCCESS:
                claim = delivery.link.keys.claim(delivery.message.task, meta.idempotency_key)
                items += (GIVE_UP, number[delivery.stream], delivery.entry, delivery.message.task_id, b"", 1, claim)
            items += (kind, number[delivery.stream], delivery.entry, delivery.message.task_id, stored, ttl_ms, *extra)
    runs: list[Arg] = []
    for stream, entries in plain.items():
        runs += (number[stream], len(entries), *entries)
    return runs, len(plain), items


def _scheduled(delivery: Delivery) -> bool:
    """Whether a schedule sent it that waits for its end."""
    meta = delivery.message.meta
    return meta is not None and meta.schedule is not None and not delivery.settled


def _told_to_schedule(delivery: Delivery, state: str, ran: float) -> tuple[Arg, ...]:
    meta, keys = delivery.message.meta, delivery.link.keys
    assert meta is not None
    assert meta.schedule is not None
    own = (keys.schedule(meta.schedule), keys.fires(meta.schedule), keys.held(meta.schedule))
    ending = (meta.fire_time, round(ran * 1000), state)
    return (*own, *ending, keys.stream_prefix, keys.levels, str(DEFAULT_PRIORITY))


_COUNTED = {"SUCCESS": "succeeded", "FAILURE": "failed", "REVOKED": "other", "EXPIRED": "other", "SKIPPED": "other"}


def _note(delivery: Delivery, outcome: Outcome, replayed: Replayed, stream: int) -> tuple[Arg, ...]:
    """How a replayed message ended, for the record of its replay; nothing when it has not ended."""
    word = _COUNTED.get(outcome.state)
    if word is None:
        return ()
    if outcome.kind == DEAD_LETTER and outcome.extra[2] == replayed.group:
        word = "again"
    record = delivery.link.keys.dead_run(replayed.run)
    begun = delivery.link.stored_as(delivery) if delivery.settled else ("", 0)
    return (
        *(NOTE, stream, delivery.entry, delivery.message.task_id, b"", RUN_TTL_MS),
        *(record, f"{word}:{replayed.group}", *begun),
    )
