"""How deliveries end: the only writer of what ``lua/settle.lua`` reads.

A delivery is settled by one *end*, and by *follow-ups* that happen with it or not at all. What each does is said in
``lua/include/end`` and ``lua/include/follow``, under the same kind. To add a follow-up takes a class here, its
file there, and a line ``-- include`` in the script.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from taskq.broker.calls import Arg, Call, load
from taskq.broker.keys import QueueKeys
from taskq.values.message import DEFAULT_PRIORITY

SETTLE = load("settle")


class _Words(msgspec.Struct, frozen=True, array_like=True):
    """A value whose fields are the words that the script is told, in their order."""

    kind: ClassVar[str]

    def words(self) -> tuple[Arg, ...]:
        """What follows the kind."""
        return msgspec.structs.astuple(self)


class Complete(_Words, frozen=True, array_like=True, tag="c"):
    """It is done."""

    kind = "c"


class Commit(_Words, frozen=True, array_like=True, tag="t"):
    """It is done, and Redis runs these commands with it or not at all."""

    kind = "t"
    packed: tuple[Any, ...]
    """How many commands, then each with its length before it: :meth:`taskq.values.transaction.Transaction.packed`."""

    def words(self) -> tuple[Arg, ...]:
        return self.packed


class Retry(_Words, frozen=True, array_like=True, tag="r"):
    """It waits *wait_ms*, as the delayed member :func:`taskq.broker.scripts.member` makes."""

    kind = "r"
    wait_ms: int
    member: bytes


class DeadLetter(_Words, frozen=True, array_like=True, tag="d"):
    """It goes to the dead letter queue."""

    kind = "d"
    message: bytes
    evidence: bytes
    fingerprint: str
    label: bytes


class Release(_Words, frozen=True, array_like=True, tag="l"):
    """It goes back to the front of its queue, nothing charged."""

    kind = "l"
    crashes: int | None = None
    """How many workers died of it so far; None: it is not a suspect."""

    def words(self) -> tuple[Arg, ...]:
        return ("" if self.crashes is None else self.crashes,)


class Store(_Words, frozen=True, array_like=True, tag="s"):
    """It was settled before it ran: its outcome is stored, once per *number* under *key*."""

    kind = "s"
    key: bytes
    number: int


class Bury(_Words, frozen=True, array_like=True, tag="e"):
    """It was settled before it ran: as :class:`Store`, with a dead letter."""

    kind = "e"
    key: bytes
    number: int
    letter: DeadLetter

    def words(self) -> tuple[Arg, ...]:
        return self.key, self.number, *self.letter.words()


End = Complete | Commit | Retry | DeadLetter | Release | Store | Bury
COMPLETE = Complete()


class NextInLane(_Words, frozen=True):
    """Lets the ordering key's next message into the queue."""

    kind = "q"
    ordering_key: str


class EndOfSchedule(_Words, frozen=True):
    """Tells the schedule that sent the message how it ended, and sends what that held back."""

    kind = "o"
    schedule: str
    fire_time: Arg
    ran_ms: int
    state: str
    default_level: str = str(DEFAULT_PRIORITY)


class FreeClaim(_Words, frozen=True):
    """Gives the message's idempotency key free."""

    kind = "k"
    claim: bytes


class CountReplay(_Words, frozen=True):
    """Counts how a replayed message ended, in the record of its replay."""

    kind = "n"
    record: bytes
    field: str
    ttl_ms: int


FollowUp = NextInLane | EndOfSchedule | FreeClaim | CountReplay


class Settle(msgspec.Struct, frozen=True, gc=False):
    """One delivery that has ended."""

    stream: int
    """The number of its stream among those of the call, from 1."""
    entry: bytes
    task_id: str
    end: End
    follow: Sequence[FollowUp] = ()
    outcome: bytes = b""
    """What is stored for whoever waits; empty for nothing."""
    ttl_ms: int = 1
    """How long the outcome is stored."""


def settle(
    keys: QueueKeys,
    streams: Sequence[bytes],
    consumer: bytes,
    want: int,
    settled: Sequence[Settle] = (),
    completed: Sequence[tuple[int, Sequence[bytes]]] = (),
) -> Call:
    """End deliveries and fetch up to *want* more.

    Args:
        keys: of the queue.
        streams: in the order in which they are read.
        consumer: whose deliveries they are.
        want: most entries to fetch; 0 for none.
        settled: what has ended.
        completed: what is done and has no outcome: the number of a stream, and entries of it.
    """
    args: list[Arg] = [consumer, want, keys.result_prefix, keys.wake, keys.prefix, len(completed)]
    for stream, entries in completed:
        args += (stream, len(entries), *entries)
    for each in settled:
        end = each.end
        if end is COMPLETE and not each.follow:  # most have nothing but a result
            args += (Complete.kind, each.stream, each.entry, each.task_id, each.outcome, each.ttl_ms, 0)
        else:
            words = end.words()
            rest = [word for follow in each.follow for word in _framed(follow)]
            args += (end.kind, each.stream, each.entry, each.task_id, each.outcome, each.ttl_ms)
            args += (1 + len(words) + len(rest), len(words), *words, *rest)
    return Call(
        SETTLE, (keys.consumers, keys.delayed, keys.dead, keys.waiting, keys.revoked, keys.paused, *streams), args
    )


def _framed(follow: FollowUp) -> tuple[Arg, ...]:
    words = follow.words()
    return follow.kind, len(words), *words
