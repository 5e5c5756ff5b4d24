"""The app: registry of tasks and schedules, configuration, and the connections of this process."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from taskq.audit import Audit
from taskq.broadcast import BroadcastHandlers
from taskq.broker import address as addresses
from taskq.broker import inspect as read_side
from taskq.broker.aio import AsyncClient
from taskq.broker.inspect import QueueStats
from taskq.broker.keys import Keys
from taskq.broker.listener import Listeners
from taskq.broker.producer import Sendable
from taskq.broker.sync import SyncBroker
from taskq.collector import Collector, collecting
from taskq.config import Config
from taskq.dlq import DeadLetters, periodic
from taskq.durations import Duration
from taskq.errors import ArgumentsError, ConfigError, ScheduleError, UnknownTaskError
from taskq.events import EventStreams
from taskq.hooks import Hooks
from taskq.jobs import Job, Jobs, Window
from taskq.jobs.definition import PREVIOUS_DAY, body_of
from taskq.jobs.definition import check as check_job
from taskq.message import check_id
from taskq.options import TaskOptions, call_plan
from taskq.publishing import Publishing
from taskq.queues import Queues
from taskq.result import Result
from taskq.schedule import Schedule, cron
from taskq.schedules.api import Schedules
from taskq.schedules.entry import MAX_CATCH_UP, PeriodicEntry, configured_entry
from taskq.sender import Sender
from taskq.subscription import Subscription
from taskq.task import AsyncTask, BaseTask, Task, TaskDecorator, prepare
from taskq.topic import Topic

F = TypeVar("F", bound=BaseTask[Any, Any])


class TaskQ(Publishing):
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
        self.name = name
        self._given = {**settings, "broker_url": broker_url}
        self._configure()
        self.include = tuple(include)
        self.tasks: dict[str, BaseTask[Any, Any]] = {}
        self.periodic_entries: dict[str, PeriodicEntry] = {}
        self.batch_jobs: dict[str, Job] = {}
        self.topics: dict[str, Topic] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.broadcasts = BroadcastHandlers()
        self.hooks = Hooks()
        """What happens in this process, for those who listen; see :mod:`taskq.hooks`."""
        self.task = TaskDecorator(lambda: self)
        """``@app.task`` or ``@app.task(queue=..., ...)``: register a function; see :class:`TaskSettings`."""
        self._lock = threading.Lock()
        self._listeners: Listeners | None = None
        self._register_builtins()

    def __repr__(self) -> str:
        return f"<TaskQ {self.name} at {self.address}>"

    def reconfigure(self, **settings: Any) -> None:
        """Change settings before anything was sent or served: what command line flags do.

        Raises:
            UnknownOptionError, ConfigError: as the constructor.
        """
        self._given.update(settings)
        self._configure()

    def _configure(self) -> None:
        self.config = Config.build(self._given)
        self.address = addresses.parse(self.config.broker_url)
        self.keys = Keys(self.config.namespace)

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
        if not callable(function) or isinstance(function, (type, BaseTask)):
            raise ConfigError(f"@app.task wants a function, not {function!r}")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigError(f"{function.__qualname__} is a generator; a task is an ordinary or async function")
        task_name = name or _default_name(function)
        known = self.tasks.get(task_name)
        if known is not None and not _same_source(known.function, function):
            raise ConfigError(f"the task name {task_name!r} is taken by {known.function!r}; give name= to one of them")
        is_async = inspect.iscoroutinefunction(function)
        kind = AsyncTask if is_async else Task
        options = TaskOptions.build(self, settings, task_name)
        if group_queue is not None:
            options = dataclasses.replace(options, queue=group_queue)
        if options.batch is not None:
            _check_batch_function(function, bind or group_queue is not None, task_name)
        task: BaseTask[Any, Any] = kind(self, function, task_name, bind=bind, is_async=is_async, options=options)
        if isinstance(line := options.dlq_replay, str):
            schedule, own = cron(line, tz=self.config.timezone), {"task": task_name}
            self.add_periodic(PeriodicEntry(f"{periodic.TASK}:{task_name}", periodic.TASK, schedule, kwargs=own))
        self.tasks[task_name] = task
        return task

    def periodic(
        self,
        schedule: Schedule,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        catch_up: str = "last",
        max_catch_up: int = MAX_CATCH_UP,
        overlap: str = "allow",
        max_held: int = 1,
        jitter: Duration = 0.0,
        start: datetime | None = None,
        end: datetime | None = None,
        **options: Any,
    ) -> Callable[[F | Callable[..., Any]], F | BaseTask[Any, Any]]:
        """Run a task on a schedule: above a plain function or above ``@app.task``.

        Args:
            schedule: ``cron("0 2 * * *", tz="Asia/Seoul")``, ``every(30)``, ``at(datetime)``.
            args, kwargs: what the task is called with.
            name: of the schedule; default the task's name.
            catch_up, max_catch_up: which fire times missed while no beat ran are made up for: the ``last`` one
                (default), ``none``, or ``all`` of them, but no more than the latest *max_catch_up*.
            overlap, max_held: what happens while the schedule's last message has not ended: ``allow`` (default) sends
                another, ``skip`` sends none, ``queue`` holds up to *max_held* back until then, ``cancel`` revokes it.
            jitter: each fire is later by up to this, by an amount that depends on its fire time alone.
            start, end: no fire time before and after; timezone-aware.
            **options: as for ``task.options(...)``.

        Raises:
            ScheduleError: the schedule or name cannot be used.
        """

        def decorate(function: Any) -> Any:
            task = function if isinstance(function, BaseTask) else self.task(function)
            entry_name = name or task.name
            self.add_periodic(
                PeriodicEntry(
                    name=entry_name,
                    task=task.name,
                    schedule=schedule,
                    args=tuple(args),
                    kwargs=dict(kwargs or {}),
                    options=options,
                    catch_up=catch_up,
                    max_catch_up=max_catch_up,
                    overlap=overlap,
                    max_held=max_held,
                    jitter=jitter,
                    start=start,
                    end=end,
                )
            )
            return task

        return decorate

    def batch_job(
        self,
        schedule: Schedule,
        *,
        source: str,
        window: str = "since_last",
        name: str | None = None,
        page: int = 1000,
        catch_up: str | None = None,
        **settings: Any,
    ) -> Callable[[Callable[[Window], Any]], BaseTask[[], Any]]:
        """Run a function on a schedule over the events of a window; it is given a :class:`taskq.Window`.

        Args:
            schedule: as for :meth:`periodic`.
            source: the topic; declared with :meth:`topic`.
            window: ``since_last`` (from where the last run ended to the fire time) or ``previous_day`` (the calendar
                day before the fire time, in the schedule's zone).
            name: of the job, its task and its schedule; default ``module.function``.
            page: events in a page, at most 10,000.
            catch_up: as for :meth:`periodic`; default ``all`` for ``previous_day``, else ``last``.
            **settings: as for ``@app.task``.

        Raises:
            UnknownTopicError: the source is not declared.
            ConfigError: a window, page or setting that cannot be used.
        """
        self._declared(source)
        check_job(window, page, name or "")
        if settings.get("batch") is not None or settings.get("delivery", "at_least_once") != "at_least_once":
            raise ConfigError("a batch job commits with its success: it cannot be a batch task, nor at_most_once")

        def decorate(function: Callable[[Window], Any]) -> BaseTask[[], Any]:
            job_name = name or _default_name(function)
            queue = settings.get("queue", self.config.task_default_queue)
            zone = getattr(schedule, "zone", None) or ZoneInfo(self.config.timezone)
            job = Job(job_name, queue, source, window, page, zone)
            task = self.register(body_of(self, job, function), name=job_name, bind=False, settings=settings)
            task.fenced = True
            self.batch_jobs[job_name] = job
            policy = catch_up or ("all" if window == PREVIOUS_DAY else "last")
            self.periodic(schedule, name=job_name, catch_up=policy)(task)
            return task

        return decorate

    @cached_property
    def jobs(self) -> Jobs:
        """The batch jobs of this app: how far they have come."""

        def send(name: str, task_id: str | None) -> Result[Any]:
            options: dict[str, Any] = {} if task_id is None else {"task_id": task_id}
            return self.tasks[name].apply_async(**options)

        return Jobs(lambda *command: self.sync_broker.execute(*command), self.keys, self.batch_jobs, send)

    def add_periodic(self, entry: PeriodicEntry) -> None:
        """Add a schedule.

        Raises:
            ScheduleError: its name is taken.
        """
        if entry.name in self.periodic_entries and self.periodic_entries[entry.name] != entry:
            raise ScheduleError(f"the schedule name {entry.name!r} is taken; give name= to one of them")
        self.periodic_entries[entry.name] = entry

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
        if not isinstance(name, str) or not name:
            raise ConfigError(f"write the name of a task, such as 'shop.add', not {name!r}")
        known = self.tasks.get(name)
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
        outgoing, result = prepare(self, name, tuple(args), dict(kwargs or {}), plan)
        self.send((outgoing,))
        return result

    def result(self, task_id: str, *, queue: str | None = None) -> Result[Any]:
        """The handle of a message sent earlier or elsewhere.

        Args:
            task_id: its id.
            queue: where it was sent; without it every known queue is asked.
        """
        return Result(self, check_id(task_id), queue)

    def get_task(self, name: str) -> BaseTask[Any, Any]:
        """The task of that name.

        Raises:
            UnknownTaskError: there is none.
        """
        try:
            return self.tasks[name]
        except KeyError:
            raise UnknownTaskError(
                f"task {name!r} is not registered; known are {', '.join(sorted(self.tasks))}"
            ) from None

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

    @property
    def _queues(self) -> Queues:
        return Queues(self.sync_broker, self.keys, self.config, self.known_queues)

    @cached_property
    def events(self) -> EventStreams:
        """The topics of this namespace: their groups, positions and replays."""
        return EventStreams(self.sync_broker, self.keys, self.topics)

    @property
    def schedules(self) -> Schedules:
        """The schedules of this namespace: add, remove, pause, resume, run, backfill, list, history."""
        return Schedules(self)

    @cached_property
    def sender(self) -> Sender:
        """The sending side of this process."""
        return Sender(self.address, self.config, self.keys)

    @property
    def sync_broker(self) -> SyncBroker:
        """The connections of ordinary code in this process."""
        return self.sender.broker

    @property
    def async_client(self) -> AsyncClient:
        """The connection of the running event loop."""
        return self.sender.client

    @property
    def listeners(self) -> Listeners:
        """The subscriptions of this process, through which results arrive."""
        with self._lock:
            if self._listeners is None or self._listeners.pid != os.getpid():
                self._listeners = Listeners(self.address, self.keys.client, self.config.broker_connection_timeout)
            return self._listeners

    def batch(self) -> Collector:
        """Collect what is sent inside a block, and send it together at its end::

            with app.batch():            # or: async with app.batch():
                for order in orders:
                    send_receipt.delay(order.id)

        When the block raises, nothing is sent. Messages are accepted when the block has ended, not before.
        """
        return Collector(self)

    def known_queues(self) -> list[str]:
        """The queues of this app's tasks, and every other one that Redis knows in this namespace."""
        own = {task.settings.queue for task in self.tasks.values()} | {self.config.task_default_queue}
        return sorted(own.union(read_side.queue_names(self.sync_broker.execute, self.keys)))

    def queues(self) -> list[QueueStats]:
        """Every queue as it is now, by name: what waits, what runs, what failed, whether it is paused."""
        return self._queues.stats()

    def pause(self, queue: str) -> bool:
        """Deliver nothing more of *queue* to any worker until it is resumed, however many restarts there are.

        What runs ends as ever. What a worker holds of it and has not started goes back. Messages, delayed ones and
        retries collect meanwhile.

        Returns:
            Whether that changed something: False when it was paused before.

        Raises:
            ConfigError: no name for a queue.
        """
        return self._queues.pause(queue)

    def resume(self, queue: str) -> bool:
        """Deliver the messages of a paused *queue* again, at once.

        Returns:
            Whether that changed something: False when it was not paused.
        """
        return self._queues.resume(queue)

    def purge(self, queue: str, *, delayed: bool = False) -> int:
        """Drop the messages that wait in *queue*; they become REVOKED. What a worker has is not touched.

        Args:
            queue: its name.
            delayed: also those that are not due yet, retries among them.

        Returns:
            How many were dropped, of those that waited when it began.
        """
        return self._queues.purge(queue, delayed=delayed)

    async def aqueues(self) -> list[QueueStats]:
        """As :meth:`queues`, without blocking the event loop."""
        return await asyncio.to_thread(self.queues)

    async def apause(self, queue: str) -> bool:
        """As :meth:`pause`, without blocking the event loop."""
        return await asyncio.to_thread(self.pause, queue)

    async def aresume(self, queue: str) -> bool:
        """As :meth:`resume`, without blocking the event loop."""
        return await asyncio.to_thread(self.resume, queue)

    async def apurge(self, queue: str, *, delayed: bool = False) -> int:
        """As :meth:`purge`, without blocking the event loop."""
        return await asyncio.to_thread(self.purge, queue, delayed=delayed)

    def send(self, messages: Sequence[Sendable]) -> None:
        """Send prepared messages.

        Raises:
            BrokerError: Redis did not accept a page in time.
        """
        if (block := collecting(self)) is not None:
            block.add(messages)
            return
        if not self.hooks.has_listeners("sent"):
            self.sender.send(messages)
            return
        with self.hooks.sending([message.keys.queue for message in messages]):
            self.sender.send(messages)

    async def asend(self, message: Sendable) -> None:
        """Send one prepared message from the running event loop.

        Raises:
            BrokerError: Redis did not accept it in time.
        """
        if (block := collecting(self)) is not None:
            block.add((message,))
            return
        if not self.hooks.has_listeners("sent"):
            await self.sender.asend(message)
            return
        with self.hooks.sending((message.keys.queue,)):
            await self.sender.asend(message)

    async def asend_many(self, messages: Sequence[Sendable]) -> None:
        """Send prepared messages from the running event loop.

        Raises:
            BrokerError: Redis did not accept a page in time.
        """
        if (block := collecting(self)) is not None:
            block.add(messages)
            return
        if not self.hooks.has_listeners("sent"):
            await self.sender.asend_many(messages)
            return
        with self.hooks.sending([message.keys.queue for message in messages]):
            await self.sender.asend_many(messages)

    def close(self) -> None:
        """Close this process's connections; they open again when needed."""
        if "sender" in self.__dict__:
            self.sender.close()
            del self.sender
        with self._lock:
            if self._listeners is not None and self._listeners.pid == os.getpid():
                self._listeners.close()
            self._listeners = None

    async def aclose(self) -> None:
        """Close the connections of the running event loop, and what :meth:`close` closes."""
        if "sender" in self.__dict__:
            self.sender.close_loop()
        if self._listeners is not None:
            self._listeners.close_loop()
        await asyncio.to_thread(self.close)

    def load(self) -> None:
        """Import ``include`` and read ``beat_schedule``: what a worker or beat does before it starts.

        Raises:
            ConfigError: a schedule definition that cannot be used.
        """
        import importlib

        for module in self.include:
            importlib.import_module(module)
        for name, definition in self.config.beat_schedule.items():
            self.add_periodic(configured_entry(name, definition, self.config.timezone))

    def _check_arguments(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise when a task does not take these arguments; an app without tasks cannot tell."""
        if all(known.startswith("taskq.") for known in self.tasks):
            return
        try:
            self.get_task(name).check_call(args, kwargs)
        except TypeError as error:
            raise ArgumentsError(f"{name} does not take these arguments: {error}") from None

    def _register_builtins(self) -> None:
        periodic.install(self)
        if self.config.dlq_replay_schedule:
            schedule = cron(self.config.dlq_replay_schedule, tz=self.config.timezone)
            self.add_periodic(PeriodicEntry(periodic.TASK, periodic.TASK, schedule, source="config"))


def _default_name(function: Callable[..., Any]) -> str:
    module = function.__module__
    if module == "__main__":
        # so that `python shop.py` and `taskq worker -A shop:app` mean the same task
        path = getattr(sys.modules["__main__"], "__file__", None)
        module = Path(path).stem if path else module
    return f"{module}.{function.__qualname__}"


def _check_batch_function(function: Callable[..., Any], bound: bool, name: str) -> None:
    if bound:
        raise ConfigError(f"batch task {name} cannot be bound or a subscriber: its function takes a list of items")
    try:
        inspect.signature(function).bind([])
    except TypeError:
        raise ConfigError(f"batch task {name}: its function takes one argument, the list of items") from None


def _same_source(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether two functions are the same definition, as after a module was imported twice."""
    one, other = inspect.unwrap(one), inspect.unwrap(other)
    a, b = getattr(one, "__code__", None), getattr(other, "__code__", None)
    if a is None or b is None:
        return one is other
    return (a.co_filename, a.co_firstlineno) == (b.co_filename, b.co_firstlineno)


_default: TaskQ | None = None
_default_lock = threading.Lock()


def default_app() -> TaskQ:
    """The app behind the module-level ``task``, configured by the environment; made when first needed."""
    global _default
    with _default_lock:
        if _default is None:
            _default = TaskQ(os.environ.get("TASKQ_NAME", "taskq"))
        return _default


task = TaskDecorator(default_app)
