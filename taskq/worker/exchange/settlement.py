"""The call that settles, and which outcomes cannot be in one."""

from __future__ import annotations

import logging

from taskq.broker.calls import Call
from taskq.broker.link.wire import pack
from taskq.broker.scripts.settling import settle
from taskq.worker.partition.partition import QueueLink
from taskq.worker.partition.settling import Ended, settles
from taskq.worker.running.runner import unrecordable

logger = logging.getLogger("taskq.worker")


def settle_call(link: QueueLink, batch: list[Ended], want: int) -> Call:
    """The call that settles *batch* and fetches up to *want* more."""
    streams = link.streams
    settled, completed = settles(batch, streams)
    return settle(link.keys, streams, link.consumer, want, settled, completed)


def sound(link: QueueLink, batch: list[Ended], worker: str) -> tuple[list[Ended], int]:
    """*batch* with a dead letter in place of every outcome that no call can be made of, and how many these are.

    One whose dead letter cannot be sent either is left out: it stays held, and readiness tells.

    Args:
        link: the queue.
        batch: outcomes of which a call has failed before it was sent.
        worker: the name kept in dead letters.
    """
    kept: list[Ended] = []
    unsound = 0
    for item in batch:
        trouble = _trouble(link, item)
        if trouble is None:
            kept.append(item)
            continue
        unsound += 1
        delivery, outcome, ran = item
        logger.error(
            "the outcome %s of %s[%s] cannot be sent; it becomes a dead letter",
            *(outcome.state, delivery.message.task, delivery.message.task_id),
            exc_info=trouble,
        )
        instead = (delivery, unrecordable(delivery, trouble, worker), ran)
        if _trouble(link, instead) is None:
            kept.append(instead)
    return kept, unsound


def _trouble(link: QueueLink, item: Ended) -> Exception | None:
    try:
        pack(settle_call(link, [item], 0).command())
    except Exception as error:
        return error
    return None
