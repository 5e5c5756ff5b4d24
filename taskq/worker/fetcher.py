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
from typing import Any

from taskq import failpoints
from taskq.broker import scripts
from taskq.broker.address import Address
from taskq.broker.aio import AsyncConnection
from taskq.broker.keys import GROUP
from taskq.broker.replies import is_nogroup
from taskq.broker.scripts import MAX_PER_CALL, Call
from taskq.config import Config
from taskq.delivery import Delivery
from taskq.errors import BrokerError, BrokerUnavailableError
from taskq.worker import claims
from taskq.worker.demand import Demand
from taskq.worker.doorbell import Doorbell
from taskq.worker.executors import Executor, finish
from taskq.worker.intake import Intake, Rows
from taskq.worker.link import QueueLink, next_name
from taskq.worker.outcomes import BEGUN, RELEASE, Ended, released, settle_arguments
from taskq.worker.quarantine import Quarantine
from taskq.worker.reader import Reader

logger = logging.getLogger("taskq.worker")

MOST_HELD = 5000
"""Deliveries held at most, settled or not: the bound of the outcome buffer while Redis cannot be reached."""
LOOK_EVERY = 0.05
"""Seconds between looks at a queue that had run dry, while another queue is busy."""
PAUSED_LOOK_EVERY = 5.0
"""Seconds between looks at a paused queue: what makes up for a wake-up that was lost."""
STALL = 0.25
"""Seconds without any outcome after which deliveries that only wait are given back."""
LOG_EVERY = 1.0
"""Seconds between log lines about the same trouble."""


class Fetcher:
    """Fetches and settles for one worker process.

    Args:
        address: where Redis is.
        config: for timeouts and limits.
        links: the queues.
        in_order: serve the first queue before the others; else all in turns.
        intake: takes what was fetched.
        executors: whose free slots decide how much to fetch.
        doorbell: rings when there is something to do.
        settled: told of each batch that Redis accepted.
        lease_lost: told when our lease was lost, for views.
    """

    def __init__(
        self,
        address: Address,
        config: Config,
        links: Sequence[QueueLink],
        in_order: bool,
        intake: Intake,
        executors: Sequence[Executor],
        doorbell: Doorbell,
        settled: Callable[[QueueLink, list[Ended]], None],
        lease_lost: Callable[[], None],
    ) -> None:
        self._address = address
        self._config = config
        self._links = list(links)
        self._in_order = in_order
        self._intake = intake
        self._quarantine = intake.quarantine = Quarantine(self.run_call, intake.run, intake.isolation)
        self._batches, self._gate = intake.batches, intake.gate
        self._demand = Demand(executors, config.worker_prefetch, self._batches, self._gate)
        if self._gate is not None:
            self._gate.run_call, self._gate.lease_lost = self.run_call, self.lease_lost
            self._gate.gone, self._gate.wake = self._quarantine.ended, doorbell.wake
        self._doorbell = doorbell
        self._settled = settled
        self._tell_lease_lost = lease_lost
        self._connection: AsyncConnection | None = None
        self._opening = asyncio.Lock()
        self._reader = Reader(
            address, config, self._links, doorbell, self._credit, self._accept_read, self._reader_trouble, self._pause
        )
        self._logged_at = 0.0
        self._last_exchange = 0.0
        self._levels_stale = False
        self._pauses_stale = False
        self._pauses_seen = 0.0
        self.draining = False
        """Whether to settle only and fetch nothing more."""
        self.registered = False
        """Whether every queue's lease stands under our present name."""

    @property
    def last_fetch(self) -> float:
        """``time.monotonic()`` of the last successful read: what readiness looks at."""
        return max(self._last_exchange, self._reader.last_read)

    def drain(self) -> None:
        """Fetch nothing more, and give back what has not started."""
        self.draining = True
        if self._batches is not None:
            self._batches.draining = True
        if self._gate is not None:
            self._gate.draining = True
        self._restart_reading()

    async def run_call(self, call: Call) -> Any:
        """Run a script on the worker's connection.

        Raises:
            BrokerError: it cannot be reached, or refuses.
        """
        connection = await self._open()
        return await connection.run(call, self._config.broker_deadline)

    async def execute(self, *command: Any) -> Any:
        """Run a command on the worker's connection; raises as :meth:`run_call`."""
        connection = await self._open()
        return await connection.execute(*command, timeout=self._config.broker_deadline)

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

    async def register(self) -> None:
        """Take out the leases under our present name.

        Raises:
            BrokerError: Redis cannot be reached, or refuses.
        """
        lease_ms = round(self._config.lease_timeout * 1000)
        for link in self._links:
            link.set_levels(await self._levels(link))
            link.revocations = True
            if failpoints.ARMED:
                failpoints.hit("register.levels")
            await self.run_call(scripts.register(link.keys, link.consumer, lease_ms, link.streams))
            if failpoints.ARMED:
                failpoints.hit("register.queue")
            link.hot = True
        self.registered = True
        if failpoints.ARMED:
            failpoints.hit("register.done")

    def refresh_levels(self) -> None:
        """A priority level may have come into use: look, and read it from now on."""
        self._levels_stale = True
        self._doorbell.wake()

    def refresh_pauses(self) -> None:
        """A queue may have been paused or resumed: look."""
        self._pauses_stale = True
        self._doorbell.wake()

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
        if self._gate is not None:
            self._gate.clear()
        if self._batches is not None:
            self._batches.lease_lost()
        for executor in self._demand.executors:
            if settled := [delivery for delivery in executor.take_waiting() if delivery.settled]:
                executor.submit(settled)
        self.registered = False  # before the name changes: the keeper must not ask for a name not yet registered
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

    def give_back(self, executors: Sequence[Executor], only: QueueLink | None = None) -> None:
        """Release what *executors* have not started, of all queues or of *only* one.

        What was settled before it runs stays: nobody else has it.
        """
        if others := self._release(self._quarantine.take_waiting(), only):
            self._quarantine.add(others)
        if self._batches is not None:
            self._release(self._batches.take_waiting(only), None)
        if self._gate is not None:
            self._release(self._gate.take_waiting(only), None)
        for executor in executors:
            if others := self._release(executor.take_waiting(), only):
                executor.submit(others)
        self._doorbell.wake()

    def _release(self, waiting: Sequence[Delivery], only: QueueLink | None) -> list[Delivery]:
        """Release *waiting*; those that stay."""
        kept: list[Delivery] = []
        for delivery in waiting:
            first = delivery if delivery.members is None else delivery.members[0]
            if delivery.settled or (only is not None and first.link is not only):
                kept.append(delivery)
            else:
                finish(delivery, released(delivery), 0.0)
        return kept

    async def hand_back(self) -> None:
        """Give back all that is still ours, uncharged, and the leases with it.

        Raises:
            BrokerError: Redis cannot be reached; the leases will run out instead.
        """
        if self._reader.client_id is not None:
            # closed on our side is not yet closed on Redis's: a read still blocked there would take what we hand back
            with contextlib.suppress(BrokerError):  # it is gone already, or the ACL forbids it
                await self.execute("CLIENT", "KILL", "ID", self._reader.client_id)
        for link in self._links:
            more = 1
            while more:
                call = scripts.recover(link.keys, link.streams, link.consumer, 0)
                moved, more, _, _ = await self.run_call(call)
                if failpoints.ARMED:
                    failpoints.hit("handback.page")
                more = more and moved

    def close(self) -> None:
        """Close the connections."""
        self._reader.close()
        if self._connection is not None:
            self._connection.close()

    def held(self) -> int:
        """How many deliveries are not settled."""
        return sum(len(link.held) for link in self._links)

    def idle(self) -> bool:
        """Whether nothing is held and the last look found nothing more."""
        return not self.held() and not self._any_hot() and not any(link.reclaim for link in self._links)

    async def _turn(self) -> None:
        if self._levels_stale:
            await self._look_at_levels()
        if not self.registered:
            await self.register()
        if self._pauses_stale or (self._any_paused() and time.monotonic() - self._pauses_seen > PAUSED_LOOK_EVERY):
            await self._look_at_pauses()
        if self._batches is not None and self._batches.blocked:
            self._batches.start_ready()
        if self._gate is not None and self._gate.blocked:
            self._gate.look()
        busy = False
        for link in self._next_order():
            if link.reclaim and not self._reader.reading and not self.draining:
                await self._reclaim(link)
            want = self._want(link)
            if link.ended or want:
                busy = True
                await self._exchange(link, want)
        dry = not self._any_hot() and not all(link.paused for link in self._links)
        if dry and not self._reader.reading and (credit := self._credit()) > 0:
            self._reader.start(credit)
        if not busy and self.registered:  # a lost registration is mended at once, whoever noticed it
            await self._rest()

    def _next_order(self) -> list[QueueLink]:
        """The links as this turn serves them: in the order of preference, or in turns."""
        if not self._in_order:
            self._links.append(self._links.pop(0))
        return self._links

    def _any_hot(self) -> bool:
        return any(link.hot and not link.paused for link in self._links)

    def _any_paused(self) -> bool:
        return any(link.paused for link in self._links)

    def _want(self, link: QueueLink) -> int:
        if self._reader.reading or link.paused:
            return 0
        if not link.hot and (not self._any_hot() or time.monotonic() - link.looked_at < LOOK_EVERY):
            return 0  # it is blocked on, or, while others are busy and nobody blocks, looked at now and then
        return min(self._credit(), MAX_PER_CALL)

    def _credit(self) -> int:
        """How many more deliveries may be fetched now."""
        if self.draining or not self.registered:
            return 0
        return min(self._demand.credit(), MOST_HELD - self.held())

    async def _rest(self) -> None:
        """Wait until there is something to do."""
        # who blocks on its queues and has nothing waiting may rest for ever; who counts busy slots looks again
        forever = self._reader.reading and not self._demand.waiting() and not self._any_paused()
        try:
            async with asyncio.timeout(None if forever else STALL):
                await self._doorbell.wait()
        except TimeoutError:
            if self._demand.waiting() and not self.draining:
                # nothing has ended for a while: what waits behind long tasks here may run elsewhere meanwhile
                self._demand.stalled = True
                self.give_back(self._demand.executors)

    async def _exchange(self, link: QueueLink, want: int) -> None:
        batch, streams = link.take_ended(MAX_PER_CALL), link.streams
        runs, run_count, items = settle_arguments(batch, streams)
        call = scripts.settle(link.keys, streams, link.consumer, want, runs, run_count, items)
        try:
            if failpoints.ARMED:
                failpoints.hit("exchange.send")
            status, *rest = await self.run_call(call)
            if failpoints.ARMED:
                failpoints.hit("exchange.replied")
        except BrokerError as error:
            link.ended.extendleft(reversed(batch))
            if is_nogroup(error):
                await self.register()
                return
            raise
        if status == 0:
            self.lease_lost(call.args[0])  # type: ignore[arg-type]
            return
        rows, flags, refused, failed = rest
        for text in failed:
            logger.error("a command of ctx.tx was refused by Redis: %s", text.decode(errors="replace"))
        self._close_batch(link, batch, refused)
        if failpoints.ARMED:
            failpoints.hit("exchange.closed")
        if want:
            self._last_exchange = link.looked_at = time.monotonic()
            link.revocations = bool(flags & 1)
            link.hot = sum(len(entries) for _, entries in rows) >= want
            self._pause(link, bool(flags & 2))
        if rows:
            # by key from here on: the numbers hold for this call's streams only
            fetched = [(streams[number - 1], entries) for number, entries in rows]
            await self._accept(link, fetched, check_revoked=link.revocations)

    def _close_batch(self, link: QueueLink, batch: list[Ended], refused: list[bytes]) -> None:
        if refused:
            self._report(BrokerUnavailableError(f"no memory left in Redis to settle {len(refused)} messages"))
            again = set(refused)
            link.ended.extend(item for item in batch if item[0].entry in again)
            batch = [item for item in batch if item[0].entry not in again]
        held = link.held
        begun: list[Delivery] = []
        for delivery, outcome, _ in batch:
            if outcome is BEGUN:
                delivery.settled = True
                begun.append(delivery)
            else:
                held.pop(delivery.key, None)
                if delivery.suspect:
                    self._quarantine.ended(delivery)
        if begun:
            self._intake.run(begun)
            batch = [item for item in batch if item[1] is not BEGUN]
        if batch:
            self._demand.stalled = self._demand.stalled and all(outcome.kind == RELEASE for _, outcome, _ in batch)
            self._settled(link, batch)

    async def _accept(self, link: QueueLink, rows: Any, *, check_revoked: bool) -> None:
        taken = self._intake.take(link, rows)
        if link.paused:
            taken = self._release(taken, link)
        if check_revoked and taken:
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
        self._intake.start(taken)
        if keyed:
            await self._claim_keys(link, keyed)
        if link.ended:  # some were refused at once, and no executor will tell
            self._doorbell.wake()
        if failpoints.ARMED:
            failpoints.hit("accept.started")

    async def _claim_keys(self, link: QueueLink, keyed: list[Delivery]) -> None:
        """Start those of *keyed* that get their idempotency key; the work of the others is done, or under way."""
        consumer = link.consumer
        try:
            if failpoints.ARMED:
                failpoints.hit("claim.send")
            status, *answers = await self.run_call(claims.claim_call(link, keyed, self._config))
            if failpoints.ARMED:
                failpoints.hit("claim.replied")
        except BrokerError:
            # not to be started unchecked: forget them, our pending list gives them back after the reconnect
            for delivery in keyed:
                link.held.pop(delivery.key, None)
            raise
        if status == 0:
            self.lease_lost(consumer)
        if link.consumer != consumer:
            return  # they belong to others now
        mine: list[Delivery] = []
        for delivery, answer in zip(keyed, answers, strict=True):
            refused = claims.refusal(delivery, answer)
            if refused is None:
                mine.append(delivery)
            else:
                finish(delivery, refused, 0.0)
        self._intake.start(mine)

    async def _mark_revoked(self, link: QueueLink, taken: list[Delivery]) -> None:
        ids = [delivery.message.task_id for delivery in taken]
        try:
            scores = await self.execute("ZMSCORE", link.keys.revoked, *ids)
        except BrokerError:
            # what was fetched cannot start unchecked: forget it, our pending list gives it back after the reconnect
            for delivery in taken:
                link.held.pop(delivery.key, None)
            raise
        if failpoints.ARMED:
            failpoints.hit("revoked.looked")
        for delivery, score in zip(taken, scores, strict=True):
            if score is not None:
                delivery.cancelled = "revoked"

    async def _accept_read(self, link: QueueLink, rows: Rows) -> None:
        await self._accept(link, rows, check_revoked=link.revocations)

    def _reader_trouble(self, error: BrokerError) -> None:
        if is_nogroup(error):
            self.registered = False
        elif not self.draining:
            self._report(error)

    def _restart_reading(self) -> None:
        """What is listened to has changed: begin anew."""
        self._reader.restart()
        self._doorbell.wake()

    async def _reclaim(self, link: QueueLink) -> None:
        """Take up entries that are ours but that we never saw, because the reply that carried them was lost."""
        for stream in link.streams:
            last: bytes = b"0"
            while True:
                try:
                    reply = await self.execute(
                        "XREADGROUP", "GROUP", GROUP, link.consumer, "COUNT", 500, "STREAMS", stream, last
                    )
                except BrokerError as error:
                    if not is_nogroup(error):
                        raise
                    self.registered = False
                    return
                entries = reply[0][1] if reply else []
                if not entries:
                    break
                if failpoints.ARMED:
                    failpoints.hit("reclaim.read")
                gone = [entry for entry, fields in entries if fields is None]
                if gone:  # deleted under us; on Redis 6.2 they would stay pending for ever
                    await self.execute("XACK", stream, GROUP, *gone)
                await self._accept(link, [(stream, entries)], check_revoked=True)
                last = entries[-1][0]
        if failpoints.ARMED:
            failpoints.hit("reclaim.done")
        link.reclaim = False
        link.hot = True

    async def _look_at_levels(self) -> None:
        self._levels_stale = False
        try:
            for link in self._links:
                before = link.streams
                link.set_levels(await self._levels(link))
                if link.streams != before:
                    if failpoints.ARMED:
                        failpoints.hit("levels.changed")
                    self.registered = False
        except BrokerError:
            self._levels_stale = True
            raise
        if not self.registered:
            self._restart_reading()

    async def _look_at_pauses(self) -> None:
        self._pauses_stale = False
        try:
            found = await self.execute("MGET", *(link.keys.paused for link in self._links))
            self._pauses_seen = self._last_exchange = time.monotonic()
            news = [self._pause(link, since is not None) for link, since in zip(self._links, found, strict=True)]
            if any(news):
                await self._reader.interrupt(self.execute)
        except BrokerError:
            self._pauses_stale = True
            raise

    def _pause(self, link: QueueLink, paused: bool) -> bool:
        """Note whether a queue is paused; whether that is news."""
        if link.paused == paused:
            return False
        link.paused = paused
        if paused:
            self._pauses_seen = time.monotonic()
            self.give_back(self._demand.executors, link)
        else:
            link.hot = True
        self._doorbell.wake()
        return True

    async def _levels(self, link: QueueLink) -> list[int]:
        extra = await self.execute("SMEMBERS", link.keys.levels)
        return [int(level) for level in extra]

    async def _open(self) -> AsyncConnection:
        connection = self._connection
        if connection is not None and connection.is_open:
            return connection
        async with self._opening:
            if self._connection is None or not self._connection.is_open:
                again = self._connection is not None
                timeout = self._config.broker_connection_timeout
                self._connection = await AsyncConnection.open(self._address, timeout, "taskq-worker")
                if again:
                    logger.info("connected to Redis again")
            return self._connection

    def _report(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._logged_at >= LOG_EVERY:
            self._logged_at = now
            logger.warning("%s; trying again", error)
