"""The worker: composes fetcher, executors, keeper and promoters, and stops them in the right order.

It installs no signal handlers (the command does), so it can also run inside a web process or a test.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from taskq import failpoints
from taskq.broker import scripts
from taskq.broker.keeper import LeaseKeeper, consumer_name
from taskq.broker.link.aio import insist
from taskq.broker.link.replies import though_wrongtype
from taskq.broker.views import survey
from taskq.broker.views.workers import WorkerRecord
from taskq.client.app import TaskQ
from taskq.errors import BrokerError, ConfigError
from taskq.values.config import FIFO, check_queue, is_fifo
from taskq.worker.admission.intake import Intake
from taskq.worker.exchange import notices
from taskq.worker.exchange.fetcher import Fetcher
from taskq.worker.exchange.notices import Control
from taskq.worker.partition.connection import WorkerConnection
from taskq.worker.partition.partition import QueueLink
from taskq.worker.partition.settling import Ended
from taskq.worker.partition.wakeup import Doorbell
from taskq.worker.reporting.record import describe
from taskq.worker.reporting.report import Reporter
from taskq.worker.reporting.strays import Strays
from taskq.worker.reporting.tally import by_kind, settled_of
from taskq.worker.running import forked
from taskq.worker.running.batch_runner import runner_of
from taskq.worker.running.executors import Executor
from taskq.worker.running.executors.coroutines import CoroutineExecutor
from taskq.worker.running.executors.isolation import Isolation
from taskq.worker.running.executors.processes import ProcessExecutor
from taskq.worker.running.executors.threads import ThreadExecutor
from taskq.worker.running.limits import TimeLimits
from taskq.worker.services.dispatcher import Dispatcher
from taskq.worker.services.promoter import Promoter
from taskq.worker.services.retention import Retention
from taskq.worker.services.unparker import Unparker

logger = logging.getLogger("taskq.worker")

POLL = 0.02
"""Seconds between looks at whether a stopping or bursting worker is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How one worker process runs; None takes the app's setting."""

    queues: Sequence[str] = ()
    """In order of preference; empty for every queue of the app's tasks, in turns."""
    pool: str | None = None
    concurrency: int | None = None
    async_concurrency: int | None = None
    shutdown_timeout: float | None = None
    burst: bool = False
    """Stop when the queues are empty."""
    app_path: str | None = None
    """``module:attribute`` of the app, for child processes: those of the processes pool, and those for suspects."""
    family: str = ""
    """By this a supervisor knows this worker's consumer names when it has died, see
    :mod:`taskq.worker.process.takeover`."""


class Worker:
    """One worker process's work. To be made on the event loop that runs it.

    Args:
        app: whose tasks to run.
        options: how.

    Raises:
        ConfigError: options that do not go together.
    """

    def __init__(self, app: TaskQ, options: WorkerOptions | None = None) -> None:
        self.app = app
        self.options = options or WorkerOptions()
        self.pool = self.options.pool or app.config.worker_pool
        self.queues = [of_tasks(queue) for queue in self.options.queues] or own_queues(app)
        self.started = asyncio.Event()
        """Set when the worker has its leases and fetches."""
        self._started_at = time.time()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        config, name = app.config, consumer_name(self.options.family)
        self._runner = runner_of(app, name.decode())
        self._doorbell = Doorbell()
        self._links = [QueueLink(app.keys.queue(queue), name) for queue in self.queues]
        limits = TimeLimits(asyncio.get_running_loop())
        async_slots = self.options.async_concurrency or config.worker_async_concurrency
        self._sync = self._sync_executor(limits)
        self._async = CoroutineExecutor(async_slots, self._runner, self._doorbell.ring, limits)
        self._isolation = self._isolation_for(self.options.app_path)
        self._intake = Intake(app, self._runner, self._sync, self._async, self._isolation)
        self._connection = WorkerConnection(app.address, config)
        self._fetcher = Fetcher(
            app.address,
            config,
            self._connection,
            self._links,
            bool(self.options.queues),
            self._intake,
            self._doorbell,
            self._settled,
            self._tell_lease_lost,
        )
        self.strays = Strays(self._links, [*self._executors(), *self._fetcher.holders()])
        self._promoters = {link.queue: Promoter(link, self._connection.run_call) for link in self._links}
        run, execute = self._connection.run_call, self._connection.execute
        self._unparkers = {link.queue: Unparker(link, app.tasks, run, execute) for link in self._links}
        self._dispatchers = self._dispatchers_of(app)
        self._retention = Retention(config, self._links, run, self._tell_removed)
        self._control = self._control_of(app)
        self._handling: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._reporter = Reporter(
            app.keys, self._links, config.lease_timeout, self._describe, lambda: self._fetcher.standing.registered
        )
        self._keeper = self._keeper_of(app)
        self._reporter.news = self._keeper.wake

    async def run(self) -> None:
        """Work until :meth:`stop` (or, with ``burst``, until the queues are empty).

        Raises:
            BrokerError: Redis could not be reached at the start, or refused.
        """
        forked.claim()
        try:
            if isinstance(self._sync, ProcessExecutor):
                await self._sync.start()
            await insist(self._appear, self.app.config.broker_deadline)
        except BaseException:
            self._close()
            raise
        self._keeper.start()
        for promoter in self._promoters.values():
            promoter.start()
        for unparker in self._unparkers.values():
            unparker.start()
        if self._intake.gate is not None:
            self._intake.gate.start_service()
        for dispatcher in self._dispatchers.values():
            dispatcher.start()
        running = (self._fetcher.run(), self._control.run(), self._retention.run(), self.strays.run())
        services = [asyncio.create_task(service) for service in running]
        self.started.set()
        try:
            await self._until_stopped(services)
            await self._drain()
        finally:
            await self._tear_down(services)

    async def _appear(self, _: float) -> None:
        with though_wrongtype():
            await self._connection.execute("SADD", self.app.keys.queues, *self.queues)  # views show what has workers
        await self._fetcher.standing.register()

    def stop(self) -> None:
        """Stop fetching, give back what has not started, end when the rest has ended. On the loop's thread."""
        self._stop.set()

    def hurry(self) -> None:
        """Stop now: hand back also what runs. On the loop's thread."""
        self._stop.set()
        self._hurry.set()

    @property
    def shutdown_timeout(self) -> float:
        """Seconds that running tasks may take after :meth:`stop`."""
        timeout = self.options.shutdown_timeout
        return self.app.config.worker_shutdown_timeout if timeout is None else timeout

    def hand_back_from_outside(self) -> None:
        """Give back all that is ours, also what runs, uncharged; from another thread, when the loop is blocked.

        Raises:
            BrokerError: Redis cannot be reached; the leases will run out instead.
        """
        for link in list(self._links):
            more = 1
            while more:
                call = scripts.recover(link.keys, link.streams, link.consumer, 0)
                moved, more, _, _ = self.app.sync_broker.run(call)
                more = more and moved

    @property
    def last_fetch(self) -> float:
        """``time.monotonic()`` of the last successful read of a queue; 0 before the first."""
        return self._fetcher.last_fetch

    def _sync_executor(self, limits: TimeLimits) -> Executor:
        slots = self.options.concurrency or self.app.config.worker_concurrency
        ring = self._doorbell.ring
        if self.pool == "solo":
            return ThreadExecutor(1, self._runner, ring, limits)
        if self.pool == "processes":
            if not self.options.app_path:
                raise ConfigError("the processes pool needs the app's path: taskq worker -A module:app -P processes")
            return ProcessExecutor(slots, self.options.app_path, self._runner, ring)
        return ThreadExecutor(slots, self._runner, ring, limits)

    def _executors(self) -> list[Executor]:
        return [self._sync, self._async] if self._isolation is None else [self._sync, self._async, self._isolation]

    def _isolation_for(self, app_path: str | None) -> Isolation | None:
        if not app_path or self.pool == "solo":  # solo: in this process, whatever it is
            return None
        return Isolation(self._sync.slots, app_path, self._runner, self._doorbell.ring)

    def _control_of(self, app: TaskQ) -> Control:
        """What listens for word to our queues, topics and broadcasts."""
        return Control(
            app.address,
            app.config.broker_connection_timeout,
            self._links,
            self._links_by_topic(),
            self._heard,
            {app.keys.broadcast(name): name for name in app.broadcasts.names()},
            self._told,
        )

    def _keeper_of(self, app: TaskQ) -> LeaseKeeper:
        """What renews our leases and takes over those of the dead."""
        return LeaseKeeper(
            app.address,
            app.config,
            self._links,
            lambda: self._fetcher.standing.registered,
            self._keeper_lost,
            lambda queue, count: app.hooks.emit("recovered", queue, count),
            self._reporter.tick,
            lambda seconds: app.hooks.emit("renewed", seconds),
        )

    def _tell_removed(self, queue: str, reason: str, count: int) -> None:
        self.app.hooks.emit("dlq_removed", queue, reason, count)

    def _dispatchers_of(self, app: TaskQ) -> dict[str, Dispatcher]:
        """One dispatcher for each of our queues that gets the events of a topic."""
        return {
            link.queue: Dispatcher(
                app.keys, subscription, self._connection.run_call, self._connection.execute, self._trimmed_unread
            )
            for link in self._links
            if (subscription := app.subscriptions.get(link.queue)) is not None
        }

    def _links_by_topic(self) -> dict[bytes, list[QueueLink]]:
        found: dict[bytes, list[QueueLink]] = {}
        for link in self._links:
            if link.queue in self._dispatchers:
                topic = self.app.subscriptions[link.queue].topic
                found.setdefault(self.app.keys.topic(topic).published, []).append(link)
        return found

    def _trimmed_unread(self, queue: str, count: int) -> None:
        logger.error("group %s: its topic dropped %d events before the group saw them", queue, count)
        self.app.hooks.emit("trimmed_unread", queue, count)

    async def _until_stopped(self, services: Sequence[asyncio.Task[None]]) -> None:
        stop = asyncio.create_task(self._stop.wait())
        waiting = {stop, *services}
        try:
            while not stop.done():
                timeout = POLL if self.options.burst else None
                done, _ = await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                for service in done - {stop}:
                    service.result()  # services do not end: this raises what broke it
                if self.options.burst and self._fetcher.idle() and await self._nothing_due():
                    break
        finally:
            stop.cancel()

    async def _nothing_due(self) -> bool:
        if not all(dispatcher.dry for dispatcher in self._dispatchers.values()):
            return False
        with contextlib.suppress(BrokerError):
            for link in self._links:
                # one script: counted stream by stream, a recovery could carry everything past our eyes
                view = survey.view_of(link.queue, await self._connection.run_call(survey.count(link.keys)))
                if view.stats.backlog and not link.paused:
                    return False
            return True
        return False

    async def _drain(self) -> None:
        """Fetch nothing more, give back what has not started, let what runs end."""
        if failpoints.ARMED:
            failpoints.hit("drain.begin")
        fetcher = self._fetcher
        fetcher.drain()
        fetcher.releaser.give_back()
        if failpoints.ARMED:
            failpoints.hit("drain.released")
        limit = time.monotonic() + self.shutdown_timeout
        while fetcher.held() and time.monotonic() < limit:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL / 4):
                    await self._hurry.wait()
                    break
        if fetcher.held():
            logger.warning("handing back %d messages that did not end in time", fetcher.held())

    async def _tear_down(self, services: Sequence[asyncio.Task[None]]) -> None:
        for service in (*services, *self._handling):
            service.cancel()
        await asyncio.gather(*services, *self._handling, return_exceptions=True)
        for dispatcher in self._dispatchers.values():
            await dispatcher.stop()
        for promoter in self._promoters.values():
            await promoter.stop()
        for unparker in self._unparkers.values():
            await unparker.stop()
        if self._intake.gate is not None:
            await self._intake.gate.stop()
        await asyncio.to_thread(self._keeper.stop)
        if failpoints.ARMED:
            failpoints.hit("handback.send")
        try:
            async with asyncio.timeout(self.app.config.broker_deadline):
                await self._fetcher.hand_back()
                await self._leave()
        except (BrokerError, TimeoutError) as error:
            logger.warning("could not hand back (%s); the lease will run out instead", error or "no answer in time")
        if failpoints.ARMED:
            failpoints.hit("stop.done")
        self._close()
        for executor in self._executors():
            if isinstance(executor, ProcessExecutor):
                await executor.ended()

    async def _leave(self) -> None:
        """Count what has ended since the last time, and take our record away."""
        try:
            await self._connection.execute("DEL", self._reporter.record_key)
            for call in self._reporter.last_calls():
                await self._connection.run_call(call)
        except BrokerError as error:  # the record runs out by itself
            logger.debug("could not count what ended last: %s", error)

    def _close(self) -> None:
        self._control.close()
        self._fetcher.close()
        for executor in self._executors():
            executor.close()

    def _settled(self, link: QueueLink, batch: list[Ended]) -> None:
        kinds = by_kind(batch)
        self._reporter.settled(link, kinds)
        if self.app.hooks.has_listeners("settled"):
            self.app.hooks.emit("settled", settled_of(link.queue, kinds))

    def _describe(self) -> WorkerRecord:
        """Our record as of now; called from the keeper's thread."""
        return describe(self.app, self.pool, self._links, self._started_at, self._executors(), self._reporter.counted())

    def _keeper_lost(self, consumer: bytes) -> None:
        self._loop.call_soon_threadsafe(self._fetcher.lease_lost, consumer)

    def _tell_lease_lost(self) -> None:
        for queue in self.queues:
            self.app.hooks.emit("lease_lost", queue)

    def _heard(self, link: QueueLink, words: list[str]) -> None:
        match words:
            case ["delayed"]:
                self._promoters[link.queue].wake()
            case [notices.PUBLISHED]:
                self._dispatchers[link.queue].wake()
            case ["levels"]:
                self._fetcher.standing.refresh_levels()
            case ["paused"]:
                self._fetcher.standing.refresh_pauses()
                self._unparkers[link.queue].wake()
            case ["parked"]:
                self._unparkers[link.queue].wake()
            case ["revoked", *ids]:
                link.revocations = True
                if ids:
                    self._revoke_held(link, ids)
                elif link.held:
                    self._handle(self._look_up_held(link))

    def _told(self, name: str, data: bytes) -> None:
        """A live broadcast has come: its handlers run beside the tasks."""
        self._handle(self.app.broadcasts.handle(name, data))

    def _handle(self, work: Coroutine[Any, Any, None]) -> None:
        handling = asyncio.create_task(work)
        self._handling.add(handling)  # the loop itself would let go of it
        handling.add_done_callback(self._handling.discard)

    async def _look_up_held(self, link: QueueLink) -> None:
        """We may have missed word of a revocation: ask about all that is held."""
        while True:
            try:
                self._revoke_held(link, await self._fetcher.arrivals.revoked_of(link))
            except BrokerError as error:
                logger.debug("cannot look for revoked messages: %s", error)
                await asyncio.sleep(POLL)
            else:
                return

    def _revoke_held(self, link: QueueLink, ids: Sequence[str]) -> None:
        for delivery in list(link.held.values()):
            if delivery.message.task_id in ids and delivery.cancelled in ("", "soft time limit"):
                self._intake.stop_delivery(delivery, "revoked")


def of_tasks(queue: str) -> str:
    """Return *queue* if a worker can read it.

    Raises:
        ConfigError: it is a FIFO, or no name of a queue.
    """
    if is_fifo(queue):
        name = queue.removeprefix(FIFO)
        raise ConfigError(f"{queue!r} is a FIFO: no worker reads it, but app.queue({name!r}).get() does")
    return check_queue(queue)


def own_queues(app: TaskQ) -> list[str]:
    """The queues of the app's tasks and its default queue."""
    queues = {task.settings.queue for task in app.tasks.values()} | {app.config.task_default_queue}
    return sorted(queues)
