"""Named points at which a process can be made to die: every gap between two steps that a crash could fall into.

Off unless ``TASKQ_FAILPOINT`` names one, as ``"name"`` or ``"name:nth"``: the process then sends itself SIGKILL when
it comes there for the *nth* time (default the first). With ``TASKQ_FAILPOINT_ONCE=<file>`` only the process that
creates that file dies, so that a pool's next child lives; the file then tells which process it was.

A call site costs one test of a module constant, and stands where it costs that per batch rather than per task where
it can::

    if failpoints.ARMED:
        failpoints.hit("exchange.replied")

For tests only. ``tests/chaos/test_failpoints.py`` kills at every one of them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

POINTS: dict[str, str] = {
    # producers, in ordinary code
    "send.announce": "before the queue's name is added to the registry",
    "send.announced": "the queue's name is in the registry, nothing sent",
    "send.page": "before a page of messages is sent",
    "send.accepted": "a page is in Redis, its caller does not know it yet",
    "sync.sent": "a request was written to the socket, its reply not read",
    # producers, on an event loop
    "asend.page": "before a page of messages is sent",
    "asend.accepted": "a page is in Redis, its callers do not know it yet",
    "batch.close": "app.batch() has ended, nothing sent",
    "spool.keep": "Redis cannot be reached, the page is not on disk yet",
    "spool.kept": "the page is on disk, its caller does not know it yet",
    "spool.send": "before a page of the spool is sent",
    "spool.sent": "it was sent, and is still on disk",
    "spool.removed": "it was sent, and is gone from disk",
    # the outbox relay
    "relay.read": "rows were read, nothing published",
    "relay.published": "a page was published, its rows are still there",
    "relay.forgotten": "the rows are deleted, the deletion is not committed",
    "relay.done": "the deletion is committed",
    # a worker's start
    "register.levels": "the levels were read, no lease yet",
    "register.queue": "the lease of one queue stands, others may not",
    "register.done": "all leases stand, nothing fetched",
    # batch tasks
    "collect.submit": "a batch is collected, no executor has it",
    "collect.begin": "a batch begins, its function not called",
    "collect.end": "its function has returned, no outcome known",
    # rate limits
    "permit.send": "permits are about to be asked for",
    "permit.answered": "permits given and messages parked in Redis, nothing of it known here",
    "unpark.send": "before parked messages are moved back",
    "unpark.moved": "some were moved back",
    # fetch and settle
    "exchange.send": "outcomes taken from their queue, not sent",
    "exchange.replied": "settled and fetched in Redis, nothing of it known here",
    "exchange.closed": "settled deliveries forgotten, fetched ones not taken",
    "pick.send": "about to take what there is a place for, past what must stay",
    "pick.replied": "taken, and others moved, in Redis, nothing of it known here",
    "accept.taken": "deliveries made, not handed to an executor",
    "accept.started": "deliveries handed to their executors",
    "revoked.looked": "revocations looked up, nothing started",
    "claim.send": "before idempotency keys are claimed",
    "claim.replied": "the keys are claimed, nothing of it known here",
    "block.send": "before a blocking read",
    "block.replied": "a blocking read has delivered, nothing of it known here",
    "reclaim.read": "own pending entries read again, not taken",
    "reclaim.done": "own pending entries taken",
    "levels.changed": "a new priority level is known, not yet read",
    "lost.begin": "the lease is known to be lost, nothing stopped",
    "lost.renamed": "the worker has a new name, no lease under it",
    "suspect.mark": "a dead worker's message is about to be marked as running",
    "suspect.marked": "it is marked, and does not run yet",
    # running
    "run.begin": "a task is about to be called",
    "run.end": "a task has returned, its outcome is not made",
    "run.failed": "a task has raised, nothing decided",
    "arun.begin": "an async task is about to be called",
    "arun.end": "an async task has returned, its outcome is not made",
    "retry.decided": "a retry was decided on, not written",
    "dead.decided": "a dead letter was decided on, not written",
    # by time
    "promote.send": "before due messages are moved",
    "promote.moved": "due messages were moved",
    "renew.send": "before a lease is renewed",
    "renew.replied": "a lease was renewed",
    "recover.send": "before a dead worker's deliveries are taken over",
    "recover.page": "a page of them was taken over, there may be more",
    # stopping
    "drain.begin": "about to stop: nothing given back",
    "drain.released": "what had not started was released, not settled",
    "handback.send": "services are down, nothing handed back",
    "handback.page": "a page was handed back, the lease mark may stand",
    "stop.done": "everything was handed back",
    # the processes pool, parent
    "pool.give": "a delivery is booked on a child, not written to it",
    "pool.given": "a delivery was written to a child",
    "pool.answered": "a child's answers were read, not settled",
    "pool.died": "a child has died, nothing decided about what it ran",
    # the processes pool, child
    "child.received": "a frame was read, nothing started",
    "child.begin": "the slate says what runs, it does not run yet",
    "child.end": "the task has ended, the slate says it runs",
    "child.answer": "outcomes made, not written to the parent",
    "child.answered": "outcomes written to the parent",
    # beat
    "beat.clock": "the time was read",
    "beat.looked": "the last fire times were read, nothing fired",
    "beat.fire": "before a fire time's message is sent",
    "beat.fired": "a fire time's message was sent, this beat does not count it yet",
    # dead letters
    "replay.page": "before a page of dead letters is put back",
    "replay.sent": "a page of dead letters is in another queue, and still where it was",
    "replay.done": "a page of dead letters was put back",
}
"""Every point, and what it falls between."""


def _armed(environ: Mapping[str, str]) -> tuple[str, int]:
    """The point asked for and the hit that kills; an empty name for none."""
    name, _, nth = environ.get("TASKQ_FAILPOINT", "").partition(":")
    return (name, int(nth) if nth.isdigit() else 1) if name in POINTS else ("", 0)


_NAME, _left = _armed(os.environ)
ARMED = bool(_NAME)
"""Whether any point is armed in this process."""


def hit(name: str) -> None:
    """Die here, if this is the point and the hit that was asked for."""
    global _left
    if name != _NAME:
        return
    _left -= 1
    if _left == 0 and _first():
        os.kill(os.getpid(), signal.SIGKILL)


def _first() -> bool:
    """Whether no process has died at the point before, as far as ``TASKQ_FAILPOINT_ONCE`` tells."""
    path = os.environ.get("TASKQ_FAILPOINT_ONCE")
    if path is None:
        return True
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return False
    os.write(file, b"%d" % os.getpid())
    return True
