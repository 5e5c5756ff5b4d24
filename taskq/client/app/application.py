"""The app itself: the registry of tasks and schedules, and the way to everything else."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from taskq import logs
from taskq.client.app import registering
from taskq.client.app.definitions import Place
from taskq.client.app.passing import Passing
from taskq.client.app.scheduling import Scheduling
from taskq.client.audit import Audit
from taskq.client.broadcast import BroadcastHandlers
from taskq.client.dlq import DeadLetters, periodic
from taskq.client.events import EventStreams
from taskq.client.hooks import Hooks
from taskq.client.jobs import Job
from taskq.client.options import call_plan
from taskq.client.result import Result
from taskq.client.schedules.api import Schedules
from taskq.client.schedules.entry import PeriodicEntry, configured_entry
from taskq.client.task import BaseTask, TaskDecorator, prepare
from taskq.errors import UnknownTaskError, suggestion
from taskq.values.checks import check_text, named, positional, shown, texts
from taskq.values.config import check_queue
from taskq.values.message import check_id
from taskq.values.schedule import cron
from taskq.values.subscription import Subscription
from taskq.values.topics import Topic


class TaskQ(Scheduling, Passing):
    """A task queue application.

    Args:
        name: shown in logs, banners and connection names.
        broker_url: where Redis is; default ``TASKQ_BROKER_URL``, then ``REDIS_URL``, then localhost.
        include: modules that define tasks, imported when a worker starts.
        **settings: the fields of :class:`taskq.Config`.

    Raises:
        UnknownOptionError: a setting that does not exist.
        ConfigError: a value that cannot be used.
    """

    def __init__(
        self, name: str, broker_url: str | None = None, *, include: Iterable[str] = (), **settings: Any
    ) -> None:
        super().__init__({**settings, "broker_url": broker_url})
        self.name = check_text(name, "the name of an app")
        self.include = texts(include, "include")
        self.tasks: dict[str, BaseTask[Any, Any]] = {}
        self.places: dict[str, Place] = {}
        """Where each task was defined."""
        self._entries: dict[str, PeriodicEntry] = {}
        self.batch_jobs: dict[str, Job] = {}
        self.topics: dict[str, Topic] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.broadcasts = BroadcastHandlers()
        self.hooks = Hooks()
        """What happens in this process, for those who listen; see :mod:`taskq.client.hooks`."""
        self.task = TaskDecorator(lambda: self)
        """``@app.task`` or ``@app.task(queue=..., ...)``: register a function; see :class:`TaskSettings`."""
        self._register_builtins()

    def __repr__(self) -> str:
        return f"<TaskQ {self.name} at {self.address}>"

    def register(
        self,
        function: Callable[..., Any],
        *,
        name: str | None,
        bind: bool,
        settings: Mapping[str, Any],
        group_queue: str | None = None,
    ) -> BaseTask[Any, Any]:
        """Make *function* a task; what ``@app.task`` calls. A subscriber's is on the queue of its group.

        Raises:
            ConfigError: not a function, a bad setting, or the name is taken by another function.
        """
        task = registering.make_task(self, function, name=name, bind=bind, settings=settings, group_queue=group_queue)
        if isinstance(line := task.settings.dlq_replay, str):
            schedule, own = cron(line), {"task": task.name}
            self.add_periodic(PeriodicEntry(f"{periodic.TASK}:{task.name}", periodic.TASK, schedule, kwargs=own))
        self.tasks[task.name] = task
        return task

    def send_task(
        self, name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **settings: Any
    ) -> Result[Any]:
        """Send a message by task name, for callers that do not have the code.

        Args:
            name: the task's name; it need not be known here.
            args, kwargs: its arguments.
            **settings: as for ``task.options(...)``.

        Raises:
            ConfigError, SerializationError, BrokerError: as ``.delay()``.
        """
        known = self.tasks.get(check_text(name, "the name of a task"))
        if known is not None:
            return known.apply_async(args, kwargs, **settings)
        config = self.config
        plan = call_plan(
            settings,
            where=f"a call of {name}",
            queue=config.task_default_queue,
            priority=config.task_default_priority,
            fallback="spool" if config.spool_path else "raise",
        )
        outgoing, result = prepare(self, name, positional(args), named(kwargs), plan)
        self.send((outgoing,))
        return result

    def result(self, task_id: str, *, queue: str | None = None) -> Result[Any]:
        """The handle of a message sent earlier or elsewhere.

        Args:
            task_id: its id.
            queue: where it was sent; without it every known queue is asked.

        Raises:
            ConfigError: no task id, or no name of a queue.
        """
        return Result(self, check_id(task_id), None if queue is None else check_queue(queue))

    def get_task(self, name: str) -> BaseTask[Any, Any]:
        """The task of that name.

        Raises:
            UnknownTaskError: there is none.
        """
        if isinstance(name, str) and name in self.tasks:
            return self.tasks[name]
        raise UnknownTaskError(f"task {shown(name)} is not registered; {suggestion(name, self.tasks)}")

    @cached_property
    def dlq(self) -> DeadLetters:
        """The dead letters of this app's queues."""
        return DeadLetters(
            self.sync_broker, self.keys, self.known_queues, self.audit, lambda: self.tasks.keys(), self._check_arguments
        )

    @cached_property
    def audit(self) -> Audit:
        """Who did what to this namespace's queues and messages."""
        return Audit(self.sync_broker, self.keys)

    @cached_property
    def events(self) -> EventStreams:
        """The topics of this namespace: their groups, positions and replays."""
        return EventStreams(self.sync_broker, self.keys, self.topics)

    @property
    def schedules(self) -> Schedules:
        """The schedules of this namespace: add, remove, pause, resume, run, backfill, list, history."""
        return Schedules(self)

    def load(self) -> None:
        """Import ``include`` and read ``beat_schedule``: what a worker or beat does before it starts.

        Raises:
            ConfigError: a schedule definition that cannot be used.
        """
        for module in self.include:
            importlib.import_module(module)
        logs.code_imported()
        for name, definition in self.config.beat_schedule.items():
            self.add_periodic(configured_entry(name, definition))

    def _check_arguments(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise when a task does not take these arguments; an app without tasks cannot tell."""
        if all(known.startswith("taskq.") for known in self.tasks):
            return
        self.get_task(name).check_call(args, kwargs)

    def _register_builtins(self) -> None:
        periodic.install(self)
        if self.config.dlq_replay_schedule:
            schedule = cron(self.config.dlq_replay_schedule)
            self.add_periodic(PeriodicEntry(periodic.TASK, periodic.TASK, schedule, source="config"))
