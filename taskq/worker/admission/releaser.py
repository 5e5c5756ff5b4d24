"""Gives back what this worker holds and has not started, uncharged, so that it runs elsewhere or later."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import cast

from taskq import failpoints
from taskq.broker import scripts
from taskq.errors import BrokerError
from taskq.values.delivery import Delivery
from taskq.worker.admission.batches import Batches
from taskq.worker.admission.intake import Intake
from taskq.worker.admission.permits import Gate
from taskq.worker.partition.connection import WorkerConnection
from taskq.worker.partition.partition import Place, QueueLink
from taskq.worker.partition.settling import released
from taskq.worker.partition.wakeup import Doorbell
from taskq.worker.running.executors import Executor, finish


class Releaser:
    """Gives deliveries back.

    Args:
        connection: of the worker.
        links: the queues.
        intake: knows where deliveries wait before an executor has them.
        doorbell: rung when there is something to settle.
    """

    def __init__(
        self, connection: WorkerConnection, links: Sequence[QueueLink], intake: Intake, doorbell: Doorbell
    ) -> None:
        self._connection = connection
        self._links = links
        self._intake = intake
        self._doorbell = doorbell

    def give_back(self, only: QueueLink | None = None, places: Iterable[Place] | None = None) -> None:
        """Release what has not started, of all queues or of *only* one.

        What was settled before it runs stays: nobody else has it.

        Args:
            only: the queue.
            places: where it waits: executors, quarantine, batches, gate; None for all of them.
        """
        intake = self._intake
        chosen = [*intake.executors(), intake.quarantine, intake.batches, intake.gate] if places is None else places
        for place in chosen:
            if place is intake.quarantine:
                if others := self.release(intake.quarantine.take_waiting(), only):
                    intake.quarantine.add(others)
            elif isinstance(place, (Batches, Gate)):
                self.release(place.take_waiting(only), None)
            elif place is not None:
                executor = cast(Executor, place)
                if others := self.release(executor.take_waiting(), only):
                    executor.submit(others)
        self._doorbell.wake()

    def release(self, waiting: Sequence[Delivery], only: QueueLink | None) -> list[Delivery]:
        """Release *waiting*; those that stay."""
        kept: list[Delivery] = []
        for delivery in waiting:
            first = delivery if delivery.members is None else delivery.members[0]
            if delivery.settled or (only is not None and first.link is not only):
                kept.append(delivery)
            else:
                finish(delivery, released(delivery), 0.0)
        return kept

    async def hand_back(self, reader: int | None) -> None:
        """Give back all that is still ours, also what runs, and the leases with it.

        Args:
            reader: the server's number of the connection that read our queues, if there was one.

        Raises:
            BrokerError: Redis cannot be reached; the leases will run out instead.
        """
        if reader is not None:
            # closed on our side is not yet closed on Redis's: a read still blocked there would take what we hand back
            with contextlib.suppress(BrokerError):  # it is gone already, or the ACL forbids it
                await self._connection.execute("CLIENT", "KILL", "ID", reader)
        left = list(self._links)
        while left:  # a page of every queue in one round trip
            calls = [scripts.recover(link.keys, link.streams, link.consumer, 0) for link in left]
            answers = await self._connection.run_calls(calls)
            if failpoints.ARMED:
                failpoints.hit("handback.page")
            pages = zip(left, answers, strict=True)
            left = [link for link, page in pages if not isinstance(page, BrokerError) and page[0] and page[1]]
