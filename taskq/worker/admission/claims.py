"""Idempotency keys: of the messages with the same key, one runs.

A message claims its key before it starts, the settle confirms the claim with its success, and gives it back when the
message fails for good. Messages without a key pay for nothing but the look at their meta.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskq.broker import scripts
from taskq.broker.calls import Call
from taskq.broker.scripts.settling import COMPLETE
from taskq.values.config import Config
from taskq.values.delivery import Delivery
from taskq.values.durations import milliseconds
from taskq.values.message import TaskState
from taskq.values.outcome import pack_error
from taskq.worker.partition.partition import QueueLink
from taskq.worker.partition.settling import Outcome
from taskq.worker.running.runner import ignores_result


def has_key(delivery: Delivery) -> bool:
    """Whether *delivery* must claim an idempotency key before it starts."""
    meta = delivery.message.meta
    return meta is not None and meta.idempotency_key is not None and not delivery.cancelled


def claim_call(link: QueueLink, deliveries: Sequence[Delivery], config: Config) -> Call:
    """The call that claims the keys of *deliveries*; each must have one."""
    claims = []
    for delivery in deliveries:
        message = delivery.message
        assert message.meta is not None
        assert message.meta.idempotency_key is not None
        claims.append((link.keys.claim(message.task, message.meta.idempotency_key), message.task_id))
    return scripts.claim(link.keys, link.consumer, milliseconds(config.idempotency_expires), claims)


def refusal(delivery: Delivery, answer: Any) -> Outcome | None:
    """The outcome of a delivery whose key another message has: that one's success, else SKIPPED. None: it may run.

    Args:
        delivery: what asked.
        answer: of the claim script, for this delivery.
    """
    if answer == 1:
        return None
    owner, stored = answer
    if ignores_result(delivery):
        stored = b""
    elif stored[:1] != b"S":
        reason = f"message {owner.decode()} has the same idempotency key"
        stored = pack_error(TaskState.SKIPPED, "", reason, "", delivery.attempt)
    return Outcome(COMPLETE, TaskState.SKIPPED.value, stored, delivery.task.settings.result_ttl_ms)
