"""From entries to deliveries: decode once, find the task, hand over to the executor that runs its kind."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from taskq.client.app import TaskQ
from taskq.errors import DecodeError
from taskq.values.delivery import Delivery, contents, limits_of
from taskq.values.message import WIRE_VERSION, Message, decode
from taskq.worker.admission.batches import Batches
from taskq.worker.admission.permits import Gate
from taskq.worker.admission.quarantine import Quarantine
from taskq.worker.partition.partition import Place, QueueLink
from taskq.worker.partition.settling import BEGUN
from taskq.worker.running.executors import Executor, finish
from taskq.worker.running.executors.isolation import Isolation
from taskq.worker.running.executors.processes import ProcessExecutor
from taskq.worker.running.runner import Runner, malformed
from taskq.worker.running.unknown import UnknownTasks

logger = logging.getLogger("taskq.worker")

Rows = Sequence[tuple[bytes, Sequence[tuple[bytes, Sequence[bytes] | None]]]]
"""Per stream: its key, and its entries with their fields."""


class Intake:
    """Takes what was fetched.

    Args:
        app: for its registry.
        runner: for outcomes of what cannot run.
        sync_executor: runs sync tasks.
        async_executor: runs ``async def`` tasks.
        isolation: runs suspects, where there is one.
    """

    quarantine: Quarantine

    @property
    def worker(self) -> str:
        """The name kept in dead letters."""
        return self._runner.worker

    def __init__(
        self,
        app: TaskQ,
        runner: Runner,
        sync_executor: Executor,
        async_executor: Executor,
        isolation: Isolation | None = None,
    ) -> None:
        self._app = app
        self._runner = runner
        self._any_at_most_once = any(task.settings.at_most_once for task in app.tasks.values())
        self._any_suspects = False
        self._unknown_tasks = UnknownTasks()
        self._isolated = isinstance(sync_executor, ProcessExecutor)
        self.isolation = isolation
        self._sync = sync_executor
        self._async = async_executor
        self.batches = self._collector()
        """Where calls of batch tasks wait for company; None without such tasks."""
        self.gate = self._gate()
        """Where messages of tasks with a rate limit wait for their permit; None without such tasks."""

    def take(self, link: QueueLink, rows: Rows) -> list[Delivery]:
        """Make deliveries of *rows*; what cannot run at all has its outcome at once and is not returned."""
        tasks, held = self._app.tasks, link.held
        taken: list[Delivery] = []
        for stream, entries in rows:
            for entry, fields in entries:
                key = (stream, entry)
                if fields is None or key in held:
                    continue
                if len(fields) == 2 and fields[0] == b"m":
                    data, crashes = fields[1], None
                else:
                    data, crashes = contents(fields)
                    self._any_suspects = True
                try:
                    message = decode(data)
                except DecodeError as error:
                    self._malformed(link, key, fields, error)
                    continue
                task = tasks.get(message.task)
                delivery = held[key] = Delivery(link, key, data, message, task, crashes)
                if task is None:
                    self._unknown(delivery)
                else:
                    taken.append(delivery)
        return taken

    def executors(self) -> list[Executor]:
        """The executors of sync and of async tasks."""
        return [self._sync, self._async]

    def tasks(self) -> dict[str, Any]:
        """The tasks that this worker runs, by name."""
        return dict(self._app.tasks)

    def start(self, deliveries: Sequence[Delivery]) -> None:
        """Hand *deliveries* to their executors; those that run at most once are settled first, suspects wait."""
        if self._any_at_most_once:
            if self.gate is not None:  # what is settled has no entry any more that could be parked
                once = self.gate.take([each for each in deliveries if each.task.settings.at_most_once])
                deliveries = once + [each for each in deliveries if not each.task.settings.at_most_once]
            deliveries = [delivery for delivery in deliveries if not self._settle_first(delivery)]
        if self._any_suspects:
            suspects = [delivery for delivery in deliveries if self._is_dangerous(delivery)]
            deliveries = [delivery for delivery in deliveries if not self._is_dangerous(delivery)]
            self._any_suspects = False
            self.quarantine.add(suspects)
        self.run(deliveries)

    def running(self) -> set[Delivery]:
        """What runs, and what is being collected to run together."""
        executors = [*self.executors(), *([] if self.isolation is None else [self.isolation])]
        found = {
            member
            for executor in executors
            for delivery in executor.running()
            for member in ((delivery,) if delivery.members is None else delivery.members)
        }
        return found if self.batches is None else found.union(self.batches.held())

    def place_of(self, task: Any, suspect: bool) -> Place:
        """The place that a message of *task* needs, see :mod:`taskq.worker.exchange.credit`; None where it does not run
        here."""
        if task is None:
            return None
        if suspect and self._may_kill(task):
            return self.quarantine
        executor = self.executor_of(task)
        return executor if task.settings.batch is None or self.batches is None else self.batches.places[executor]

    def places(self, queue: str | None = None) -> list[Place]:
        """The places that messages of *queue* are expected to need: those of its tasks, else those of all."""
        tasks = [task for task in self._app.tasks.values() if not task.name.startswith("taskq.")]
        own = [task for task in tasks if task.settings.queue == queue]
        return list(dict.fromkeys(self.place_of(task, suspect=False) for task in own or tasks)) or [self._sync]

    @property
    def any_suspects(self) -> bool:
        """Whether there may be suspects among what was taken last."""
        return self._any_suspects

    def _may_kill(self, task: Any) -> bool:
        """Whether a suspect of *task* may take this process with it: a child of the pool dies alone, and is known."""
        return task.is_async or not self._isolated

    def _is_dangerous(self, delivery: Delivery) -> bool:
        return delivery.suspect and self._may_kill(delivery.task)

    def _settle_first(self, delivery: Delivery) -> bool:
        if not delivery.task.settings.at_most_once:
            return False
        finish(delivery, self._runner.admit(delivery) or BEGUN, 0.0)
        return True

    def run(self, deliveries: Sequence[Delivery]) -> None:
        """Hand *deliveries* to their executors, unless they need a permit or, in a batch, company."""
        if self.gate is not None:
            deliveries = self.gate.take(deliveries)
        if self.batches is not None:
            deliveries = self.batches.take(deliveries)
        if self.isolation is not None and self.isolation.booked:
            apart = [delivery for delivery in deliveries if delivery in self.isolation.booked]
            deliveries = [delivery for delivery in deliveries if delivery not in self.isolation.booked]
            self.isolation.submit(apart)
        ordinary: list[Delivery] = []
        coroutines: list[Delivery] = []
        for delivery in deliveries:
            meta, task = delivery.message.meta, delivery.task
            if task.limited or (meta is not None and (meta.soft_time_limit or meta.time_limit)):
                delivery.limited = limits_of(delivery) != (None, None)
            (coroutines if task.is_async else ordinary).append(delivery)
        if ordinary:
            self._sync.submit(ordinary)
        if coroutines:
            self._async.submit(coroutines)

    def stop_delivery(self, delivery: Delivery, why: str) -> None:
        """Have *delivery* stop, or not start."""
        delivery.cancelled = why
        if self.isolation is not None:
            self.isolation.stop_delivery(delivery)
        self.executor_of(delivery.task).stop_delivery(delivery)

    def executor_of(self, task: Any) -> Executor:
        return self._async if task is not None and task.is_async else self._sync

    def _permitted(self, deliveries: Sequence[Delivery]) -> None:
        """Go on with what has its permit now."""
        once = [each for each in deliveries if each.task.settings.at_most_once]
        if once:
            self.start(once)
        self.run([each for each in deliveries if not each.task.settings.at_most_once])

    def _gate(self) -> Gate | None:
        limited = any(task.settings.rate_limit is not None for task in self._app.tasks.values())
        return Gate(self.executor_of, self._runner.admit, self._permitted) if limited else None

    def _collector(self) -> Batches | None:
        sizes: dict[Executor, int] = {}
        for task in self._app.tasks.values():
            if (batch := task.settings.batch) is not None:
                executor = self.executor_of(task)
                sizes[executor] = max(batch.size, sizes.get(executor, 0))
        return Batches(self.executor_of, sizes, self._runner.failed) if sizes else None

    def _malformed(
        self, link: QueueLink, key: tuple[bytes, bytes], fields: Sequence[bytes], error: DecodeError
    ) -> None:
        logger.error("an entry of queue %s is no message, it goes to the dead letter queue: %s", link.queue, error)
        data = error.data if fields[0] == b"m" else b"\0".join(fields)
        nameless = Message(WIRE_VERSION, "malformed", "", [], {})
        delivery = link.held[key] = Delivery(link, key, data, nameless, None, 0)
        finish(delivery, malformed(data, str(error), self._runner.worker), 0.0)

    def _unknown(self, delivery: Delivery) -> None:
        name = delivery.message.task
        self._unknown_tasks.note(delivery.link.queue, name)
        self._app.hooks.emit("unknown_task", delivery.link.queue, name)
        finish(delivery, self._runner.unknown(delivery), 0.0)
