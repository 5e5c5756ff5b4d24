"""What Redis refuses to settle is found, and ended with the reason: one message never keeps others unsettled.

A call that settles many is refused as a whole when one of its words is too long, or when a key that one of them needs
holds another type. It is sent again by halves, down to the one that is refused alone. That one becomes a dead letter
with the reason; when its dead letter is refused too, one whose evidence is cut. What even then is refused is not its
own fault: it keeps its outcome, and is tried again from time to time.
"""

from __future__ import annotations

import logging
import time

from taskq.broker.calls import Call
from taskq.broker.link.replies import is_nogroup
from taskq.broker.scripts import MAX_PER_CALL
from taskq.broker.scripts.settling import DeadLetter
from taskq.client.dlq.letter import Evidence, buried, unpack_evidence
from taskq.errors import BrokerAuthError, BrokerError, BrokerRefusedError
from taskq.values.delivery import Delivery
from taskq.values.message import PLAIN, TaskState
from taskq.values.outcome import pack_error
from taskq.worker.partition.partition import QueueLink
from taskq.worker.partition.settling import BEGUN, Ended, Outcome
from taskq.worker.running.runner import now_ms

logger = logging.getLogger("taskq.worker")

LARGE = 1024 * 1024
"""Bytes of a call from which on a lost connection may mean that Redis refused it: the least of its own limits."""
LOSSES = 3
"""Connections that a large call of one outcome may lose in a row before it counts as refused."""
SURE = 2
"""How often in a row one outcome is refused before another one takes its place."""
_PASSING = (
    "OOM",
    "MISCONF",
    "NOREPLICAS",
    "READONLY",
    "MOVED",
    "ASK ",
    "NOSCRIPT",
    "UNKILLABLE",
    "max number of clients",
)
"""In a refusal that says something of the server's state: it passes, and what was refused is taken then."""
WHOLE, CUT = "whole", "cut"
"""What stands in for an outcome that was refused: a dead letter, and the smallest one there is."""
CUT_TEXT = 200
"""Longest error text of evidence that was cut, in characters."""
TRY_AGAIN, NO_MEMORY = 5.0, 0.25
"""Seconds until an outcome is tried again that Redis refused in every form, or for want of memory."""
LOG_EVERY = 1.0
"""Seconds between log lines: it may concern every message of a queue."""


def is_refusal(error: BrokerError) -> bool:
    """Whether Redis refuses the call itself: the same call would be refused for ever."""
    text = str(error)
    if isinstance(error, BrokerAuthError):
        return "NOPERM" in text
    passing = is_nogroup(error) or any(word in text for word in _PASSING)
    return isinstance(error, BrokerRefusedError) and not passing


class Refusals:
    """What is known of the refusals of one worker's settles."""

    def __init__(self) -> None:
        self._most: dict[QueueLink, int] = {}
        """How many outcomes go into one call, while the refused one is looked for."""
        self._in_a_row: dict[QueueLink, int] = {}
        """How often calls of one outcome, or large ones, have failed."""
        self._tried: dict[tuple[bytes, bytes], tuple[Ended, str]] = {}
        """The original of an outcome that was replaced, and how: :data:`WHOLE` or :data:`CUT`."""
        self._aside: list[tuple[float, QueueLink, Ended]] = []
        self._logged_at = 0.0

    def most(self, link: QueueLink, limit: int) -> int:
        """How many outcomes the next call may settle."""
        return min(self._most.get(link, limit), limit) if self._most else limit

    def searching(self, link: QueueLink) -> bool:
        """Whether the refused one is looked for: until then a call settles only, so that nothing else is to blame."""
        return link in self._most

    def come_back(self) -> float | None:
        """Put what was set aside for its time back to be settled; seconds until more may, None without any."""
        if not self._aside:
            return None
        now = time.monotonic()
        for due, link, item in self._aside:
            if due <= now:
                link.ended.append(item)
        self._aside = [row for row in self._aside if row[0] > now]
        return min((due - now for due, _, _ in self._aside), default=None)

    def accepted(self, link: QueueLink, batch: list[Ended]) -> None:
        """Redis took *batch*."""
        if self._in_a_row:
            self._in_a_row.pop(link, None)
        if self._tried:
            for delivery, _, _ in batch:
                self._tried.pop(delivery.key, None)
        if link in self._most:
            self._most[link] *= 2
            if self._most[link] >= MAX_PER_CALL:
                del self._most[link]

    def failed(self, link: QueueLink, batch: list[Ended], call: Call, error: BrokerError) -> bool:
        """A call that settles *batch* failed; whether that was a refusal, which is dealt with here.

        What is to be settled is on the link again afterwards.
        """
        lost = "connection was lost" in str(error) and _size(call) >= LARGE
        if not batch or not (lost or is_refusal(error)):
            link.ended.extendleft(reversed(batch))
            return False
        if len(batch) > 1 or not self.searching(link):
            link.ended.extendleft(reversed(batch))
            self._most[link] = max(len(batch) // 2, 1)
            return True
        failures = self._in_a_row[link] = self._in_a_row.get(link, 0) + 1
        if failures < (LOSSES if lost else SURE):
            link.ended.extendleft(reversed(batch))
            return not lost
        self._in_a_row.pop(link)
        self.refused(link, batch[0], str(error))
        return True

    def refused(self, link: QueueLink, item: Ended, why: str) -> None:
        """Redis refuses the outcome *item* on its own: put another one in its place, or set it aside."""
        link.forget_number(item[0])
        if "OOM" in why:
            self._aside.append((time.monotonic() + NO_MEMORY, link, item))
            return
        delivery = item[0]
        original, before = self._tried.pop(delivery.key, (item, ""))
        outcome = original[1]
        if before == CUT or outcome is BEGUN or outcome.state == "RELEASED":
            self._log("%s stays unsettled for now, Redis refuses every outcome of it: %s", delivery, why)
            self._aside.append((time.monotonic() + TRY_AGAIN, link, original))
            return
        how = CUT if before or isinstance(outcome.end, DeadLetter) else WHOLE
        self._log("%s becomes a dead letter, for Redis refused its outcome: %s", delivery, why)
        self._tried[delivery.key] = (original, how)
        link.ended.append((delivery, _instead(original, why, how), item[2]))

    def held(self) -> list[Delivery]:
        """What is set aside for its time."""
        return [item[0] for _, _, item in self._aside]

    def lease_lost(self) -> None:
        """What was set aside belongs to others now."""
        self._most.clear()
        self._in_a_row.clear()
        self._tried.clear()

    def _log(self, text: str, delivery: Delivery, why: str) -> None:
        now = time.monotonic()
        if now - self._logged_at >= LOG_EVERY:
            self._logged_at = now
            logger.error(text, f"{delivery.message.task}[{delivery.message.task_id}]", why)


def _size(call: Call) -> int:
    return sum(len(arg) for arg in call.args if isinstance(arg, (bytes, str)))


def _instead(original: Ended, why: str, how: str) -> Outcome:
    """The dead letter of a message whose outcome Redis refuses."""
    delivery, outcome, _ = original
    meta = delivery.message.meta or PLAIN
    evidence = Evidence(
        reason="failed", attempts=meta.attempt, crashes=delivery.crashes + meta.crashes, died_at=now_ms()
    )
    kind, error = "BrokerRefusedError", f"Redis refused its outcome, {outcome.state}: {why}"
    if isinstance(outcome.end, DeadLetter):
        evidence = unpack_evidence(outcome.end.evidence)
        kind, error = (
            evidence.error_type,
            f"{evidence.error[:CUT_TEXT]} (cut, since Redis refused its dead letter: {why})",
        )
    evidence.error_type, evidence.error, evidence.traceback = kind[:CUT_TEXT], error, ""
    if how == CUT:
        evidence.error = error[: 2 * CUT_TEXT]
    stored = b"" if not outcome.stored else pack_error(TaskState.FAILURE, kind, evidence.error, "", meta.attempt)
    ttl_ms = delivery.task.settings.failure_ttl_ms if stored else 1
    return Outcome(buried(delivery.data, delivery.message.task, evidence), "FAILURE", stored, ttl_ms)
