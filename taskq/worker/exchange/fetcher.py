"""The exchange loop: settle what has ended, fetch what there are slots for.

Under load one script call does both; batches form by themselves, because outcomes collect while a call is under
way. Only when a queue has run dry does a second connection block on it, so that an idle worker sends next to
nothing and still starts a new message at once (a blocked connection could not carry settles).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from taskq import failpoints
from taskq.broker.calls import Call
from taskq.broker.keeper import next_name
from taskq.broker.link.address import Address
from taskq.broker.link.replies import is_nogroup, is_wrongtype
from taskq.broker.scripts import MAX_PER_CALL
from taskq.errors import BrokerError, BrokerRefusedError, BrokerUnavailableError
from taskq.values.config import Config
from taskq.values.delivery import Delivery
from taskq.worker.admission.arrivals import Arrivals
from taskq.worker.admission.intake import Intake
from taskq.worker.admission.quarantine import Quarantine
from taskq.worker.admission.releaser import Releaser
from taskq.worker.exchange.credit import PATIENCE, Demand
from taskq.worker.exchange.membership import Standing
from taskq.worker.exchange.picker import Picker
from taskq.worker.exchange.reader import Reader
from taskq.worker.exchange.refusals import Refusals
from taskq.worker.exchange.settlement import settle_call, sound
from taskq.worker.partition.connection import WorkerConnection
from taskq.worker.partition.partition import QueueLink
from taskq.worker.partition.settling import BEGUN, Ended
from taskq.worker.partition.wakeup import Doorbell
from taskq.worker.reporting.strays import Holder

logger = logging.getLogger("taskq.worker")

MOST_HELD = 5000
"""Deliveries held at most, settled or not: the bound of the outcome buffer while Redis cannot be reached."""
LOOK_EVERY = 0.05
"""Seconds between looks at a queue that had run dry, while another queue is busy."""
LOG_EVERY = 1.0
"""Seconds between log lines about the same trouble."""


class Fetcher:
    """Fetches and settles for one worker process.

    Args:
        address: where Redis is.
        config: for timeouts and limits.
        connection: of the worker.
        links: the queues.
        in_order: serve the first queue before the others; else all in turns.
        intake: takes what was fetched.
        doorbell: rings when there is something to do.
        settled: told of each batch that Redis accepted.
        lease_lost: told when our lease was lost, for views.
    """

    def __init__(
        self,
        address: Address,
        config: Config,
        connection: WorkerConnection,
        links: Sequence[QueueLink],
        in_order: bool,
        intake: Intake,
        doorbell: Doorbell,
        settled: Callable[[QueueLink, list[Ended]], None],
        lease_lost: Callable[[], None],
    ) -> None:
        self._links = list(links)
        self._in_order = in_order
        self._intake = intake
        self._connection = connection
        self._quarantine = intake.quarantine = Quarantine(connection.run_call, intake.run, intake.isolation)
        self._batches, self._gate = intake.batches, intake.gate
        self._demand = Demand(intake, config.worker_prefetch, links)
        if self._gate is not None:
            self._gate.run_call, self._gate.lease_lost = connection.run_call, self.lease_lost
            self._gate.gone, self._gate.wake = self._quarantine.ended, doorbell.wake
        self._doorbell = doorbell
        self._settled = settled
        self._tell_lease_lost = lease_lost
        self.releaser = Releaser(connection, self._links, intake, doorbell)
        self.standing = Standing(
            connection, config, self._links, doorbell, self._restart_reading, self._interrupt_reading, self._give_back
        )
        self.arrivals = Arrivals(connection, config, intake, self.releaser, self._trim, doorbell, self.lease_lost)
        accept, pause = self.arrivals.accept, self.standing.note_pause
        self._picker = Picker(connection, intake, self._demand, accept, self.lease_lost, pause)
        self._reader = Reader(
            address,
            config,
            self._links,
            doorbell,
            self._to_read_on,
            accept,
            self._reader_trouble,
            pause,
        )
        self._refusals = Refusals()
        self._logged_at = 0.0
        self._last_exchange = 0.0
        self._look_for_late_at = 0.0
        self.draining = False
        """Whether to settle only and fetch nothing more."""

    @property
    def last_fetch(self) -> float:
        """``time.monotonic()`` of the last successful read: what readiness looks at."""
        return max(self._last_exchange, self.standing.pauses_seen, self._reader.last_read)

    def drain(self) -> None:
        """Fetch nothing more."""
        self.draining = True
        if self._batches is not None:
            self._batches.draining = True
        if self._gate is not None:
            self._gate.draining = True
        self._restart_reading()

    async def run(self) -> None:
        """Exchange until cancelled. No trouble with Redis ends it."""
        pause = 0.0
        while True:
            try:
                await self._turn()
                pause = 0.0
            except Exception as error:
                if isinstance(error, BrokerError):
                    self._report(error)
                else:  # a reply of a shape that no Redis sends, or a bug of ours: neither may end the worker
                    logger.exception("the exchange with Redis failed")
                    self.close()
                for link in self._links:
                    link.reclaim = True  # the reply that was lost may have carried deliveries
                self._reader.close()
                pause = min(max(pause * 2, 0.02), 1.0)
                await asyncio.sleep(pause)

    def lease_lost(self, consumer: bytes) -> None:
        """Redis says that *consumer* has no lease: if that is us, stop what we hold and begin again under a new name.

        What we held belongs to others now; whatever it still comes to is dropped.
        """
        if consumer != self._links[0].consumer:
            return  # told already
        if failpoints.ARMED:
            failpoints.hit("lost.begin")
        logger.warning("the lease was lost (this process was paused, or Redis lost data): beginning again")
        self._quarantine.clear()
        self._refusals.lease_lost()
        if self._gate is not None:
            self._gate.clear()
        if self._batches is not None:
            self._batches.lease_lost()
        for executor in self._intake.executors():
            if settled := [delivery for delivery in executor.take_waiting() if delivery.settled]:
                executor.submit(settled)
        # before the name changes: the keeper must not ask for a name not yet registered
        self.standing.registered = False
        name = next_name(consumer)
        for link in self._links:
            for delivery in list(link.held.values()):
                if not delivery.settled:
                    self._intake.stop_delivery(delivery, "lease lost")
            link.begin_again(name)
        if failpoints.ARMED:
            failpoints.hit("lost.renamed")
        self._tell_lease_lost()
        self._restart_reading()

    async def hand_back(self) -> None:
        """Give back all that is still ours, uncharged, and the leases with it.

        Raises:
            BrokerError: Redis cannot be reached; the leases will run out instead.
        """
        await self._reader.stop()  # one that is about to ask would take what we hand back
        await self.releaser.hand_back(self._reader.client_id)

    def close(self) -> None:
        """Close the connections."""
        self._reader.close()
        self._connection.close()

    def holders(self) -> list[Holder]:
        """Where deliveries may be, see :mod:`taskq.worker.reporting.strays`."""
        stations: list[Holder | None] = [self._quarantine, self._batches, self._gate, self._refusals]
        return [station for station in stations if station is not None]

    def held(self) -> int:
        """How many deliveries are not settled."""
        return sum(len(link.held) for link in self._links)

    def idle(self) -> bool:
        """Whether nothing is held and the last look found nothing more."""
        return not self.held() and not self._any_hot() and not any(link.reclaim for link in self._links)

    async def _turn(self) -> None:
        await self.standing.bring_up_to_date()
        if self._batches is not None and self._batches.blocked:
            self._batches.start_ready()
        if self._gate is not None and self._gate.blocked:
            self._gate.look()
        again_in = self._refusals.come_back()
        busy = False
        await self._make_way()
        for link in self._next_order():
            may_reclaim = link.reclaim and not self._reader.reading and not self.draining
            if may_reclaim and not await self.arrivals.reclaim(link):
                self.standing.registered = False
            want = self._want(link)
            if link.ended or want:
                busy = True
                await self._exchange(link, want)
            elif self._may_pick(link) and self._picker.due_in(link) <= 0:
                busy = True
                await self._pick(link)
        dry = not self._any_hot() and any(link.awaited for link in self._links)
        if dry and not self._reader.reading and (asked := self._to_read())[0]:
            self._reader.start(*asked)
        self._give_back_late()
        if not busy and self.standing.registered:  # a lost registration is mended at once, whoever noticed it
            await self._rest(again_in)

    def _next_order(self) -> list[QueueLink]:
        """The links as this turn serves them: in the order of preference, or in turns."""
        if not self._in_order:
            self._links.append(self._links.pop(0))
        return self._links

    def _any_hot(self) -> bool:
        return any(link.hot and link.awaited for link in self._links)

    def _want(self, link: QueueLink) -> int:
        if self._reader.reading or not link.awaited:
            return 0
        if not link.hot and (not self._any_hot() or time.monotonic() - link.looked_at < LOOK_EVERY):
            return 0  # it is blocked on, or, while others are busy and nobody blocks, looked at now and then
        return min(self._credit(link), MAX_PER_CALL)

    def _credit(self, link: QueueLink) -> int:
        """How many more deliveries may be fetched from *link* now, whatever they are."""
        if self.draining or not self.standing.registered:
            return 0
        return min(self._demand.credit(link), link.sizes.page, self._room(link))

    def _room(self, link: QueueLink) -> int:
        """How many more deliveries of *link* may be held at all."""
        room = MOST_HELD - self.held()
        return min(room, self._demand.affordable(link)) if link.sizes.large else room

    def _to_read(self) -> tuple[list[QueueLink], int]:
        """The queues to block on, and how many entries of each stream there is use for."""
        if self._partly():
            return [], 0
        credits = {link: self._credit(link) for link in self._links if link.awaited}
        chosen = [link for link, credit in credits.items() if credit > 0]
        if chosen:
            for link, credit in credits.items():
                link.left_out = credit <= 0
        return chosen, min((credits[link] for link in chosen), default=0)

    def _to_read_on(self) -> tuple[list[QueueLink], int]:
        """The same, for a read that goes on by itself."""
        if self._demand.waiting():
            self._doorbell.wake()  # what it has just brought may have to be given back
        return self._to_read()

    def _partly(self) -> bool:
        """Whether there is a queue of which some messages could start, and others could not."""
        if not self._demand.mixed or self.draining or not self.standing.registered:
            return False
        return any(self._demand.partly(link) and link.awaited for link in self._links)

    def _may_pick(self, link: QueueLink) -> bool:
        return link.awaited and not self._reader.reading and self._partly() and self._demand.any_room(link)

    async def _make_way(self) -> None:
        """End the read under way if it would take what has no place, or leaves out what has one now."""
        if not self._reader.reading:
            return
        end = self._partly()
        for link in self._links:
            if link.left_out and link.awaited and self._credit(link) > 0:
                link.left_out, link.hot, end = False, True, True
        if end:
            await self._interrupt_reading()

    def _trim(self, link: QueueLink, taken: list[Delivery]) -> list[Delivery]:
        """Give back at once what there is no place for; the others."""
        over = self._demand.surplus(link, taken)
        if over:
            self.releaser.release(over, None)
            gone = set(over)
            taken = [delivery for delivery in taken if delivery not in gone]
        return taken

    def _give_back_late(self) -> None:
        now = time.monotonic()
        if now < self._look_for_late_at or self.draining:
            return
        self._look_for_late_at = now + PATIENCE / 4
        if late := self._demand.late(now):  # what waits behind long tasks here may run elsewhere meanwhile
            self.releaser.give_back(places=late)

    async def _rest(self, again_in: float | None) -> None:
        """Wait until there is something to do; not longer than *again_in* seconds."""
        # who blocks on its queues and has nothing waiting may rest for ever; who counts busy slots looks again
        collects = self._batches is not None and self._batches.collects
        forever = self._reader.reading and not (collects or self._demand.waiting() or self.standing.must_look())
        looks = (
            [self._picker.due_in(link) for link in self._links if self._may_pick(link)] if self._demand.mixed else []
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(again_in if forever else min(looks, default=PATIENCE / 2)):
                await self._doorbell.wait()

    async def _pick(self, link: QueueLink) -> None:
        try:
            await self._picker.pick(link, self._room(link))
        except BrokerError as error:
            if not is_nogroup(error) and not is_wrongtype(error):
                raise
            self.standing.registered = False
        link.hot = True  # there may be more as soon as there is room
        self._last_exchange = link.looked_at

    async def _exchange(self, link: QueueLink, want: int) -> None:
        batch, streams = link.take_ended(self._refusals.most(link, MAX_PER_CALL)), link.streams
        call: Call | None = None
        try:  # whatever happens until Redis has answered, what was taken must be on the link again
            if self._refusals.searching(link):
                want = 0
            call, asked = settle_call(link, batch, want), time.monotonic()
            if failpoints.ARMED:
                failpoints.hit("exchange.send")
            status, *rest = await self._connection.run_call(call)
            if failpoints.ARMED:
                failpoints.hit("exchange.replied")
            if status:
                rows, flags, refused, failed, trouble = rest
        except BrokerError as error:
            assert call is not None
            if want:
                link.sizes.lost(want)
            if self._refusals.failed(link, batch, call, error):
                self._report(error)
                link.reclaim = True
                return
            if is_nogroup(error):
                await self.standing.register()
                return
            raise
        except BaseException as error:
            kept, unsound = (batch, 0) if not isinstance(error, Exception) else sound(link, batch, self._intake.worker)
            link.ended.extendleft(reversed(kept))
            if unsound:
                return
            raise
        if status == 0:
            self.lease_lost(call.args[0])  # type: ignore[arg-type]
            return
        for text in failed:
            logger.error("a command of ctx.tx was refused by Redis: %s", text.decode(errors="replace"))
        if trouble:
            self._report(BrokerRefusedError(f"queue {link.queue}: {trouble.decode(errors='replace')}"))
        self._close_batch(link, batch, refused)
        if failpoints.ARMED:
            failpoints.hit("exchange.closed")
        if want:
            self._last_exchange = link.looked_at = now = time.monotonic()
            count = sum(len(entries) for _, entries in rows)
            link.hot = count >= want
            link.sizes.replied(count, now - asked)
            self.standing.note_pause(link, bool(flags & 2))
        if rows:
            # by key from here on: the numbers hold for this call's streams only
            fetched = [(streams[number - 1], entries) for number, entries in rows]
            await self.arrivals.accept(link, fetched, revoked=bool(flags & 1))

    def _close_batch(self, link: QueueLink, batch: list[Ended], refused: list[bytes]) -> None:
        if refused:
            why = dict(zip(refused[::2], refused[1::2], strict=True))
            if any(b"OOM" in text for text in why.values()):
                self._report(BrokerUnavailableError(f"no memory left in Redis to settle {len(why)} messages"))
            for item in batch:
                if item[0].entry in why:
                    self._refusals.refused(link, item, why[item[0].entry].decode(errors="replace"))
            batch = [item for item in batch if item[0].entry not in why]
        self._refusals.accepted(link, batch)
        link.taken = ()
        held = link.held
        begun: list[Delivery] = []
        for delivery, outcome, _ in batch:
            if outcome is BEGUN:
                delivery.settled = True
                begun.append(delivery)
            else:
                held.pop(delivery.key, None)
                if delivery.settled:
                    link.forget_number(delivery)
                if delivery.suspect:
                    self._quarantine.ended(delivery)
        if begun:
            self._intake.run(begun)
            batch = [item for item in batch if item[1] is not BEGUN]
        if batch:
            self._demand.ended(batch)
            self._settled(link, batch)

    def _reader_trouble(self, error: BrokerError) -> None:
        if is_nogroup(error):
            self.standing.registered = False
        elif is_wrongtype(error):
            self.standing.registered = False  # which of them? the registration tells
            self._report(error)
        elif not self.draining:
            self._report(error)

    def _restart_reading(self) -> None:
        """What is listened to has changed: begin anew."""
        self._reader.restart()
        self._doorbell.wake()

    async def _interrupt_reading(self) -> None:
        await self._reader.interrupt(self._connection.execute)

    def _give_back(self, link: QueueLink) -> None:
        self.releaser.give_back(link)

    def _report(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._logged_at >= LOG_EVERY:
            self._logged_at = now
            logger.warning("%s; trying again", error)
