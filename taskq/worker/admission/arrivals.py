"""What becomes of entries that were read: looked up where that is needed, then started, refused or forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable

from taskq import failpoints
from taskq.broker.keys import GROUP
from taskq.broker.link.replies import is_nogroup, is_wrongtype
from taskq.errors import BrokerError
from taskq.values.config import Config
from taskq.values.delivery import Delivery
from taskq.worker.admission import claims
from taskq.worker.admission.intake import Intake, Rows
from taskq.worker.admission.releaser import Releaser
from taskq.worker.partition.connection import WorkerConnection
from taskq.worker.partition.partition import QueueLink
from taskq.worker.partition.wakeup import Doorbell
from taskq.worker.running.executors import finish

RECLAIM_PAGE = 500
"""Most entries of ours that are read again in one call."""


class Arrivals:
    """Takes what was read from the queues.

    Args:
        connection: of the worker.
        config: says how long an idempotency key is kept.
        intake: makes deliveries of entries, and starts them.
        releaser: gives back what comes from a queue that is paused meanwhile.
        trim: gives back what there is no place for, and returns the others.
        doorbell: rung when there is something to settle.
        lease_lost: told the name whose lease Redis does not know.
    """

    def __init__(
        self,
        connection: WorkerConnection,
        config: Config,
        intake: Intake,
        releaser: Releaser,
        trim: Callable[[QueueLink, list[Delivery]], list[Delivery]],
        doorbell: Doorbell,
        lease_lost: Callable[[bytes], None],
    ) -> None:
        self._connection = connection
        self._config = config
        self._intake = intake
        self._releaser = releaser
        self._trim = trim
        self._doorbell = doorbell
        self._lease_lost = lease_lost

    async def accept(self, link: QueueLink, rows: Rows, revoked: bool) -> None:
        """Start what was read, but for what is revoked, or whose work is done or under way.

        Args:
            link: the queue.
            rows: its streams, and what was read of each.
            revoked: whether ids were revoked when Redis gave this answer; True where it did not say.

        Raises:
            BrokerError: Redis could not be asked. What was not started will be ours again after the reconnect.
        """
        taken = unchecked = self._intake.take(link, rows)
        link.sizes.note(taken)
        try:
            if link.paused:
                taken = self._releaser.release(taken, link)
            elif taken:
                taken = self._trim(link, taken)
            if link.must_look_up(revoked) and taken:
                consumer = link.consumer
                await self._mark_revoked(link, taken)
                if link.consumer != consumer:
                    return  # the lease was lost meanwhile: they belong to others now
            if failpoints.ARMED:
                failpoints.hit("accept.taken")
            # the first test is for speed: most messages have no meta
            keyed = [delivery for delivery in taken if delivery.message.meta is not None and claims.has_key(delivery)]
            if keyed:
                taken = [delivery for delivery in taken if not claims.has_key(delivery)]
        except BaseException:
            _forget(link, unchecked)
            raise
        self._intake.start(taken)
        if keyed:
            await self._claim_keys(link, keyed)
        if link.ended:  # some were refused at once, and no executor will tell
            self._doorbell.wake()
        if failpoints.ARMED:
            failpoints.hit("accept.started")

    async def reclaim(self, link: QueueLink) -> bool:
        """Take up entries that are ours but that we never saw, because the reply that carried them was lost.

        Returns:
            False when the queue does not know its consumer group any more, so that nothing is ours.

        Raises:
            BrokerError: as :meth:`accept`.
        """
        for stream in link.readable:
            last: bytes = b"0"
            while True:
                page, asked = min(link.sizes.page, RECLAIM_PAGE), time.monotonic()
                try:
                    reply = await self._connection.execute(
                        "XREADGROUP", "GROUP", GROUP, link.consumer, "COUNT", page, "STREAMS", stream, last
                    )
                except BrokerError as error:
                    if not is_nogroup(error):
                        link.sizes.lost(page)
                        raise
                    return False
                entries = reply[0][1] if reply else []
                if not entries:
                    break
                if failpoints.ARMED:
                    failpoints.hit("reclaim.read")
                gone = [entry for entry, fields in entries if fields is None]
                if gone:  # deleted under us; on Redis 6.2 they would stay pending for ever
                    await self._connection.execute("XACK", stream, GROUP, *gone)
                link.sizes.replied(len(entries), time.monotonic() - asked)
                await self.accept(link, [(stream, entries)], revoked=True)
                last = entries[-1][0]
        if failpoints.ARMED:
            failpoints.hit("reclaim.done")
        link.reclaim = False
        link.hot = True
        return True

    async def revoked_of(self, link: QueueLink) -> list[str]:
        """Ids of messages that are held and have been revoked, whoever has told us.

        Raises:
            BrokerError: Redis could not be asked.
        """
        ids = [delivery.message.task_id for delivery in link.held.values()]
        scores = await self._connection.execute("ZMSCORE", link.keys.revoked, *ids) if ids else ()
        return [task_id for task_id, score in zip(ids, scores, strict=True) if score is not None]

    async def _mark_revoked(self, link: QueueLink, taken: list[Delivery]) -> None:
        ids = [delivery.message.task_id for delivery in taken]
        try:
            scores = await self._connection.execute("ZMSCORE", link.keys.revoked, *ids)
        except BrokerError as error:
            if is_wrongtype(error):
                return  # nobody of ours wrote it, so nothing is revoked
            raise
        if failpoints.ARMED:
            failpoints.hit("revoked.looked")
        for delivery, score in zip(taken, scores, strict=True):
            if score is not None:
                delivery.cancelled = "revoked"

    async def _claim_keys(self, link: QueueLink, keyed: list[Delivery]) -> None:
        """Start those of *keyed* that get their idempotency key; the work of the others is done, or under way."""
        consumer = link.consumer
        try:
            if failpoints.ARMED:
                failpoints.hit("claim.send")
            status, *answers = await self._connection.run_call(claims.claim_call(link, keyed, self._config))
            if failpoints.ARMED:
                failpoints.hit("claim.replied")
            told = dict(zip(keyed, answers, strict=status != 0))
        except BaseException:
            _forget(link, keyed)
            raise
        if status == 0:
            self._lease_lost(consumer)
        if link.consumer != consumer:
            return  # they belong to others now
        mine: list[Delivery] = []
        for delivery, answer in told.items():
            refused = claims.refusal(delivery, answer)
            if refused is None:
                mine.append(delivery)
            else:
                finish(delivery, refused, 0.0)
        self._intake.start(mine)


def _forget(link: QueueLink, unchecked: list[Delivery]) -> None:
    """They must not start unchecked; our pending list gives them back after the reconnect."""
    for delivery in unchecked:
        link.held.pop(delivery.key, None)
