"""One queue as this worker sees it: its consumer name, what it holds of it, and what waits to be settled."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

from taskq.broker import scripts
from taskq.broker.keys import QueueKeys
from taskq.broker.scripts.settling import COMPLETE, End
from taskq.values.delivery import Delivery
from taskq.values.message import DEFAULT_PRIORITY
from taskq.worker.partition.settling import DONE, Ended, Outcome
from taskq.worker.partition.sizes import Sizes

Place = Any
"""What a message needs to run, by identity: an executor, company in a batch, its turn among the suspects. See
:mod:`taskq.worker.exchange.credit`."""
MANY_BYTES = 1024 * 1024
"""Bytes of outcomes in one call, unless a single one has more: a large result does not hold up small ones for long."""
WORD = 10
"""Bytes that an argument of an outcome counts for besides its own: Redis refuses calls with more than a million."""


class QueueLink:
    """A worker's side of one queue.

    Args:
        keys: of the queue.
        consumer: this worker's name in the consumer groups; the same for all its queues.
    """

    def __init__(self, keys: QueueKeys, consumer: bytes) -> None:
        self.keys = keys
        self.queue = keys.queue
        self.consumer = consumer
        self._levels: set[int] = set()
        self.streams: list[bytes] = []
        self.set_levels([DEFAULT_PRIORITY])
        self.unreadable: set[bytes] = set()
        """Streams whose key holds another type: the others are read without them."""
        self._first_consumer = consumer
        self._numbers = itertools.count(1)
        self._number_of: dict[Delivery, int] = {}
        self.held: dict[tuple[bytes, bytes], Delivery] = {}
        """Every delivery of ours that is not settled, by :attr:`Delivery.key`."""
        self.ended: deque[Ended] = deque()
        """Outcomes to settle; executors append from their threads."""
        self.taken: Sequence[Ended] = ()
        """What the call under way settles."""
        self.hot = True
        """Whether the last fetch got all it asked for, so that there is probably more."""
        self.looked_at = 0.0
        """``time.monotonic()`` of the last fetch that did not block."""
        self.revocations = True
        """Whether ids may be revoked in this queue: there were some at the last answer, or we heard of some since."""
        self.paused = False
        """Whether nothing of it may be fetched or started, as far as we know."""
        self.reclaim = False
        """Whether a reply may have been lost, so that we may own entries we never saw."""
        self.sizes = Sizes()
        """How large its messages are, and how many to ask for."""
        self.shares: dict[Place, float] = {}
        """The places that its messages need, see :mod:`taskq.worker.exchange.credit`, each with its share of them
        lately."""
        self.left_out = False
        """Whether the read under way leaves it out, for want of a place for what it brings."""
        self.found_at = 0.0
        """``time.monotonic()`` of when it last brought something, in an app with tasks of several kinds."""
        self.picked: tuple[Sequence[int], float, bytes] | None = None
        """The last look of the picker that found nothing: for how much room, when, and the state of the streams."""

    def set_levels(self, levels: Sequence[int]) -> None:
        """Read these priority levels from now on, and those read before: deliveries of theirs may be held."""
        self._levels.update(levels)
        self.streams = scripts.streams_of(self.keys, sorted(self._levels))

    @property
    def readable(self) -> list[bytes]:
        """The streams that a read may ask for."""
        return [stream for stream in self.streams if stream not in self.unreadable] if self.unreadable else self.streams

    @property
    def awaited(self) -> bool:
        """Whether messages may come from it now."""
        return not self.paused and bool(self.readable)

    def must_look_up(self, revoked: bool) -> bool:
        """Whether deliveries must be looked up among the revoked ids before they start.

        To be asked when the answer of Redis that brought them is taken up, right before they are held.

        Args:
            revoked: whether ids were revoked when Redis gave that answer.
        """
        # what was heard meanwhile may have been revoked after the answer was given
        look, self.revocations = self.revocations or revoked, revoked
        return look

    def begin_again(self, consumer: bytes) -> None:
        """Go on under a new name: the old one's deliveries belong to others now, but for those settled before."""
        self.consumer = consumer
        self.held = {key: delivery for key, delivery in self.held.items() if delivery.settled}
        self.reclaim = False

    def stored_as(self, delivery: Delivery) -> tuple[bytes, int]:
        """Where and under which number the outcome of what was settled before it ran is stored: once, however often
        it is sent.

        The name is that of the worker's start, whatever it is called after a lost lease.
        """
        number = self._number_of.get(delivery)
        if number is None:
            number = self._number_of[delivery] = next(self._numbers)
        return self.keys.stored(self._first_consumer), number

    def forget_number(self, delivery: Delivery) -> None:
        """Its outcome is stored; or it was refused, and comes after others now."""
        self._number_of.pop(delivery, None)

    def take_ended(self, limit: int) -> list[Ended]:
        """Up to *limit* outcomes to settle, fewer when they are large or commit many commands.

        Those of deliveries that are no longer ours are dropped.
        """
        batch: list[Ended] = []
        self.taken = batch
        ended, held, size = self.ended, self.held, 0
        while ended and len(batch) < limit:
            item = ended.popleft()
            if held.get(item[0].key) is not item[0]:
                continue
            outcome = item[1]
            if outcome is not DONE:
                try:
                    size += len(outcome.stored) if outcome.end is COMPLETE else _size(outcome)
                except Exception:  # one that cannot be sent: found out when the call is made, and not here
                    size += WORD
                if size > MANY_BYTES and batch:
                    ended.appendleft(item)
                    break
            batch.append(item)
        return batch


def _size(outcome: Outcome) -> int:
    """Bytes that *outcome* adds to a call, about."""
    words = cast(End, outcome.end).words()
    return len(outcome.stored) + WORD * len(words) + sum(len(word) for word in words if isinstance(word, (bytes, str)))
