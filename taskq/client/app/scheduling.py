"""The part of an app that runs tasks on schedules: periodic tasks and batch jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from taskq.client.app.naming import default_name
from taskq.client.app.publishing import Publishing
from taskq.client.app.registering import check_task_function
from taskq.client.jobs import Job, Jobs, Window
from taskq.client.jobs.definition import PREVIOUS_DAY, body_of
from taskq.client.jobs.definition import check as check_job
from taskq.client.result import Result
from taskq.client.schedules.entry import MAX_CATCH_UP, PeriodicEntry
from taskq.client.task import BaseTask, PeriodicRegistrar, TaskDecorator
from taskq.errors import ConfigError, ScheduleError
from taskq.values.checks import check_function, check_text, named, shown
from taskq.values.durations import Duration
from taskq.values.schedule import Schedule
from taskq.values.schedule.zones import zone_of


class Scheduling(Publishing):
    """What :class:`taskq.TaskQ` can do with schedules; batch jobs read what is published."""

    tasks: dict[str, BaseTask[Any, Any]]
    task: TaskDecorator
    batch_jobs: dict[str, Job]
    _entries: dict[str, PeriodicEntry]

    @property
    def periodic_entries(self) -> Mapping[str, PeriodicEntry]:
        """The schedules of code and configuration by name; cron lines without a zone are in that of the setting."""
        zone = zone_of(self.config.timezone)
        return {name: entry.in_zone(zone) for name, entry in self._entries.items()}

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
    ) -> PeriodicRegistrar:
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
            check_function(function, "a periodic task")
            task = function if isinstance(function, BaseTask) else self.task(function)
            entry_name = task.name if name is None else name
            self.add_periodic(
                PeriodicEntry(
                    name=entry_name,
                    task=task.name,
                    schedule=schedule,
                    args=args,
                    kwargs=named(kwargs),
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
        if name is not None:
            check_text(name, "the name of a batch job")
        check_job(window, page, name)
        if settings.get("batch") is not None or settings.get("delivery", "at_least_once") != "at_least_once":
            raise ConfigError("a batch job commits with its success: it cannot be a batch task, nor at_most_once")

        def decorate(function: Callable[[Window], Any]) -> BaseTask[[], Any]:
            function = check_task_function(function, "@app.batch_job")
            job_name = name or default_name(function)
            queue = settings.get("queue", self.config.task_default_queue)
            zone = getattr(schedule, "zone", None)
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
            ConfigError: *entry* is none.
        """
        if not isinstance(entry, PeriodicEntry):
            raise ConfigError(f"add_periodic takes a PeriodicEntry, not {shown(entry)}")
        if self._entries.get(entry.name, entry) != entry:
            raise ScheduleError(f"the schedule name {entry.name!r} is taken; give name= to one of them")
        self._entries[entry.name] = entry
