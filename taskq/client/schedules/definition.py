"""A schedule's definition as it is kept in Redis: all that a beat without the app's code needs to fire it."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from taskq.broker.producer import Outgoing
from taskq.client.options import CallPlan, call_plan
from taskq.client.schedules.entry import MAX_CATCH_UP, MAX_JITTER, PeriodicEntry
from taskq.client.task import prepare
from taskq.errors import ConfigError, DecodeError, ScheduleError, SerializationError
from taskq.values.durations import seconds
from taskq.values.schedule import Schedule
from taskq.values.schedule.bounds import Bounded
from taskq.values.schedule.stored import from_plain, to_plain
from taskq.values.schedule.zones import zone_of
from taskq.values.serialization import pack_special, unpack_special

if TYPE_CHECKING:
    from taskq.client.app import TaskQ

_NOT_FOR_SCHEDULES = ("countdown", "eta", "task_id", "ordering_key")


class Definition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One schedule; the fields are those of :class:`PeriodicEntry`, checked and complete."""

    name: str
    task: str
    when: dict[str, Any] | None
    """The schedule as plain data; None for a class of the user's, which only its code can fire."""
    spec: str
    """The schedule in one line, for people."""
    queue: str
    priority: int
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    options: dict[str, Any] = {}
    """The other options of a call."""
    catch_up: str = "last"
    max_catch_up: int = MAX_CATCH_UP
    overlap: str = "allow"
    max_held: int = 1
    jitter: Annotated[float, msgspec.Meta(ge=0, le=MAX_JITTER)] = 0.0
    """Seconds."""
    start: datetime | None = None
    end: datetime | None = None
    source: str = "code"

    @property
    def revision(self) -> str:
        """Hash of all of it: equal definitions are one revision, wherever they come from."""
        return _hash(self)

    @property
    def timing(self) -> str:
        """Hash of when it fires. A change of it begins anew; other changes go on after the last fire time."""
        return _hash((self.when or self.spec, self.start, self.end))

    def schedule(self) -> Schedule | None:
        """The schedule within its dates; None where only the app's code can tell."""
        return None if self.when is None else Bounded(from_plain(self.when), self.start, self.end)


# by key, so that equal mappings have equal bytes
_encode = msgspec.msgpack.Encoder(enc_hook=pack_special, order="deterministic").encode
_decode = msgspec.msgpack.Decoder(Definition, ext_hook=unpack_special).decode


def _hash(value: object) -> str:
    return hashlib.sha1(_encode(value), usedforsecurity=False).hexdigest()


def pack(definition: Definition) -> bytes:
    """The stored form."""
    return _encode(definition)


def unpack(data: bytes) -> Definition:
    """The definition in *data*.

    Raises:
        DecodeError: there is none.
    """
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"not a definition of a schedule: {error}", data) from error


def define(app: TaskQ, entry: PeriodicEntry) -> Definition:
    """The definition of *entry*, checked as far as this app knows its task.

    Raises:
        ScheduleError: its message could not be sent.
    """
    entry = entry.in_zone(zone_of(app.config.timezone))
    for option in _NOT_FOR_SCHEDULES:
        if entry.options.get(option) is not None:
            raise ScheduleError(f"schedule {entry.name!r} cannot have {option!r}: each fire time has its own")
    task = app.tasks.get(entry.task)
    try:
        if task is not None:
            task.check_call(entry.args, entry.kwargs)
        plan = _plan(app, entry)
        definition = Definition(
            name=entry.name,
            task=entry.task,
            when=to_plain(entry.schedule),
            spec=entry.schedule.spec,
            queue=plan.queue,
            priority=plan.priority,
            args=list(entry.args),
            kwargs=dict(entry.kwargs),
            options=_options(plan),
            catch_up=entry.catch_up,
            max_catch_up=entry.max_catch_up,
            overlap=entry.overlap,
            max_held=entry.max_held,
            jitter=seconds(entry.jitter, "jitter"),
            start=entry.start,
            end=entry.end,
            source=entry.source,
        )
        message(app, definition, fire_id(entry.name, datetime(1970, 1, 1, microsecond=1, tzinfo=UTC)), 1)
        return unpack(pack(definition))  # as every beat will read it
    except (ConfigError, SerializationError, TypeError) as error:
        raise ScheduleError(f"schedule {entry.name!r}: {error}") from error


def message(
    app: TaskQ, definition: Definition, task_id: str, fire_time_ms: int, since_ms: int | None = None
) -> Outgoing:
    """The message of one fire.

    Args:
        app: encodes it.
        definition: of the schedule.
        task_id: of the message.
        fire_time_ms: what the task is told as its fire time.
        since_ms: from when ``expires`` counts, where it is a duration. None: from now.
    """
    settings = {
        **definition.options,
        "queue": definition.queue,
        "priority": definition.priority,
        "task_id": task_id,
    }
    where = f"schedule {definition.name}"
    plan = call_plan(settings, where=where, queue=definition.queue, priority=definition.priority)
    own: dict[str, Any] = {"schedule": definition.name, "fire_time": fire_time_ms}
    if since_ms is not None and isinstance(plan.expires, float):
        own["expires"] = max(since_ms + round(plan.expires * 1000), 1)
        plan = dataclasses.replace(plan, expires=None)
    plan = dataclasses.replace(plan, extra=plan.extra | own)
    return prepare(app, definition.task, definition.args, definition.kwargs, plan)[0]


def fire_id(schedule: str, fire_time: datetime) -> str:
    """The task id of one fire time: ``coupons@2025-03-30T17:00:00Z``."""
    return f"{schedule}@{fire_time.astimezone(UTC).replace(tzinfo=None).isoformat()}Z"


def _plan(app: TaskQ, entry: PeriodicEntry) -> CallPlan:
    where = f"schedule {entry.name}"
    task = app.tasks.get(entry.task)
    if task is None:
        config = app.config
        queue, priority = config.task_default_queue, config.task_default_priority
        return call_plan(entry.options, where=where, queue=queue, priority=priority)
    options = task.settings
    return call_plan(
        entry.options,
        where=where,
        queue=options.queue,
        priority=options.priority,
        ignore_result=options.ignore_result,
        expires=options.expires,
        limits=(options.soft_time_limit, options.time_limit),
    )


def _options(plan: CallPlan) -> dict[str, Any]:
    options = {name: value for name, value in plan.extra.items() if name != "priority"}
    return options if plan.expires is None else {**options, "expires": plan.expires}
