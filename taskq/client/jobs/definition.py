"""What a batch job is: which events, which window, and the task that its schedule sends."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from taskq.broker.scripts import jobs as job_scripts
from taskq.broker.scripts.jobs import Holder
from taskq.client.jobs.window import Window
from taskq.errors import BrokerError, ConfigError, JobSupersededError, Retry, TaskqError
from taskq.values.checks import check_count, shown
from taskq.values.delivery import current_delivery
from taskq.values.functions import is_async
from taskq.values.schedule.zones import zone_of

if TYPE_CHECKING:
    from taskq.client.app.connections import Connected

logger = logging.getLogger("taskq.jobs")

SINCE_LAST, PREVIOUS_DAY = "since_last", "previous_day"
WINDOWS = (SINCE_LAST, PREVIOUS_DAY)
MAX_PAGE = 10_000
BUSY_WAIT = 5.0
"""Seconds until a run that found another one under way tries again."""
_FOR_EVER = 1_000_000_000
"""More retries than there can be: to wait for one's turn is not a failure."""


@dataclass(frozen=True, slots=True)
class Job:
    """A batch job as it was defined."""

    name: str
    queue: str
    source: str
    """The topic whose events it reads."""
    window: str
    page: int
    zone: tzinfo | None
    """Where a day of ``previous_day`` begins and ends; None: in the zone of the setting ``timezone``."""

    def bounds(self, fire_time: datetime | None, timezone: tzinfo) -> tuple[int | None, int | None]:
        """First ms and end ms of the window of *fire_time*; None for the last position, and for the present.

        *timezone* is that of the setting: where the days of a job without a zone begin.
        """
        if self.window == SINCE_LAST:
            return None, None if fire_time is None else _ms(fire_time)
        begin, end = previous_day(fire_time or datetime.now(UTC), self.zone or timezone)
        return _ms(begin), _ms(end)


def check(window: object, page: object, name: str | None) -> None:
    """Whether a job can have these.

    Raises:
        ConfigError: an unknown window, a page that is not a number or too large.
    """
    where = "a batch job" if name is None else f"batch job {name}"
    if window not in WINDOWS:
        raise ConfigError(f"{where}: window must be one of {', '.join(WINDOWS)}, not {shown(window)}")
    check_count(page, f"{where}: page", 1, MAX_PAGE)


def previous_day(fire_time: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
    """The calendar day of *zone* before that of *fire_time*: its first instant and that of the next day, in UTC.

    It has 23 or 25 hours where the clock changes. Where midnight is skipped the day begins after the gap, where it is
    repeated with the first of the two.
    """
    today = fire_time.astimezone(zone).date()
    first, end = (_midnight(today - timedelta(days=back), zone) for back in (1, 0))
    return first, end


def _midnight(day: Any, zone: tzinfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def fire_time_of(task_id: str) -> datetime | None:
    """The fire time in the id that a schedule gives its messages; None for any other id."""
    _, at, text = task_id.rpartition("@")
    if not at:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def body_of(app: Connected, job: Job, function: Callable[..., Any]) -> Callable[[], Any]:
    """The function of the job's task: opens the window, gives it to *function*, commits what came of it."""
    if is_async(function):

        @functools.wraps(function)
        async def arun() -> Any:
            window = await asyncio.to_thread(_open, app, job, _holder(app))
            if window is None:
                return None
            with _noting(window):
                return window.committed(await function(window))

        body: Any = arun
    else:

        @functools.wraps(function)
        def run() -> Any:
            window = _open(app, job, _holder(app))
            if window is None:
                return None
            with _noting(window):
                return window.committed(function(window))

        body = run
    body.__signature__ = inspect.Signature()  # not that of what it wraps: its message has no arguments
    return body  # type: ignore[no-any-return]


def _holder(app: Connected) -> Holder:
    delivery = current_delivery.get()
    if delivery is None:
        raise TaskqError("a batch job only runs in a worker: send it with .delay(), or wait for its schedule")
    link, message = delivery.link, delivery.message
    return Holder(app.keys.queue(link.queue), link.consumer, delivery.stream, delivery.entry, message.task_id)


def _open(app: Connected, job: Job, holder: Holder) -> Window | None:
    """The window of the run that has begun or goes on; None when it was committed before."""
    from_ms, to_ms = job.bounds(fire_time_of(holder.task_id), zone_of(app.config.timezone))
    answer = app.sync_broker.run(job_scripts.open_window(holder, job.name, job.window, from_ms, to_ms))
    match answer[0]:
        case b"run":
            return Window(app.sync_broker, app.keys.topic(job.source), job.name, job.page, holder, answer[1:])
        case b"busy":
            other = answer[1].decode()
            raise Retry(f"run {other} of job {job.name} is under way", countdown=BUSY_WAIT, max_retries=_FOR_EVER)
        case b"done":
            logger.info("job %s: the window of %s was committed before", job.name, holder.task_id)
            return None
    raise JobSupersededError(f"job {job.name}: the message of this run belongs to another worker by now")


@contextmanager
def _noting(window: Window) -> Iterator[None]:
    """Leave the error of a run in the job's record, for views; the run itself goes on from its last checkpoint."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, (JobSupersededError, Retry)):
            with suppress(BrokerError, JobSupersededError):
                window.note(f"{type(error).__name__}: {error}"[:500])
        raise
