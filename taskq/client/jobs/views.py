"""How far batch jobs have come: ``app.jobs``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from taskq.broker.keys import Keys
from taskq.client.jobs.definition import Job
from taskq.errors import DecodeError, UnknownTaskError, suggestion
from taskq.values import outcome, serialization
from taskq.values.checks import shown
from taskq.values.durations import moment
from taskq.values.message import TaskState
from taskq.values.topics import check_instant


@dataclass(frozen=True, slots=True)
class JobProgress:
    """One batch job at one moment."""

    name: str
    source: str
    window: str
    queue: str
    status: str
    """``never`` ran, ``running`` (or waiting to go on, when :attr:`error` says why), ``done``, or ``failed``: its
    message became a dead letter, was revoked or has expired. A replay goes on from the last checkpoint."""
    run: str = ""
    """Task id of the last run."""
    start: datetime | None = None
    """First instant of its window; None when it begins where the last run ended."""
    end: datetime | None = None
    done: int = 0
    """Events done, up to the last checkpoint."""
    total: int | None = None
    missed: int = 0
    """Events that were dropped by the topic's retention before the run could read them."""
    position: str = ""
    """Id of the last event in what was committed."""
    started: datetime | None = None
    seen: datetime | None = None
    """Of the last checkpoint."""
    finished: datetime | None = None
    error: str = ""
    result: Any = None
    """Of the last run that has ended, where it is small."""

    @property
    def percent(self) -> float | None:
        """How much of the window is done; None when its size is not known."""
        if self.status == "done":
            return 100.0
        return None if self.total is None else 100.0 * self.done / self.total if self.total else 100.0


class Jobs:
    """The batch jobs of an app.

    Args:
        execute: runs one command.
        keys: of the namespace.
        known: the jobs by name.
        send: sends the message of a job's task with a task id.
    """

    def __init__(
        self,
        execute: Callable[..., Any],
        keys: Keys,
        known: Mapping[str, Job],
        send: Callable[[str, str | None], Any],
    ) -> None:
        self._execute = execute
        self._keys = keys
        self._known = known
        self._send = send

    def list(self) -> list[JobProgress]:
        """All jobs of the app.

        Raises:
            BrokerError: Redis could not be asked.
        """
        return [self.progress(name) for name in sorted(self._known)]

    def progress(self, name: str) -> JobProgress:
        """How far a job has come.

        Raises:
            UnknownTaskError: there is no such job.
            BrokerError: Redis could not be asked.
        """
        job = self._job(name)
        keys = self._keys.queue(job.queue)
        flat = self._execute("HGETALL", keys.job(name))
        progress = progress_of(job, flat)
        if progress.status == "running":
            # its message may have ended without the job's function: dead lettered, revoked, or its worker lost for good
            return progress_of(job, flat, self._execute("GET", keys.result(progress.run)))
        return progress

    def run(self, name: str, fire_time: datetime | None = None) -> Any:
        """Run a job now, or for the window of *fire_time*; a window that was committed is not done again.

        Raises:
            UnknownTaskError: there is no such job.
            ConfigError: *fire_time* has no time zone.
            BrokerError: Redis did not accept it.
        """
        self._job(name)
        if fire_time is None:
            return self._send(name, None)
        at = check_instant(fire_time, "fire_time").astimezone(UTC).replace(tzinfo=None)
        return self._send(name, f"{name}@{at.isoformat()}Z")

    def _job(self, name: str) -> Job:
        if isinstance(name, str) and name in self._known:
            return self._known[name]
        raise UnknownTaskError(f"there is no batch job {shown(name)}; {suggestion(name, self._known)}")


def _ending(stored: bytes | None) -> dict[str, bytes]:
    """The fields of a run whose message ended in another way than by success; it is known for ``failure_expires``."""
    try:
        ending = None if stored is None else outcome.unpack(stored)
    except DecodeError:
        ending = None
    if ending is None or not ending.state.final or ending.state is TaskState.SUCCESS:
        return {}
    told = f"{ending.error_type}: {ending.error}" if ending.error_type else ending.error
    return {"status": b"failed", "error": told.encode(errors="replace")}


def progress_of(job: Job, flat: Sequence[bytes], stored: bytes | None = None) -> JobProgress:
    """How far *job* has come.

    Args:
        job: which.
        flat: the fields and values of its hash; empty where it never ran.
        stored: the outcome of its last run's message, where there is one.
    """
    record = dict(zip((field.decode(errors="replace") for field in flat[::2]), flat[1::2], strict=True))
    if record.get("status") == b"running":
        record |= _ending(stored)

    def text(field: str) -> str:
        return record.get(field, b"").decode(errors="replace")

    def number(field: str) -> int | None:
        return int(text(field)) if text(field).isdigit() else None

    def instant(field: str) -> datetime | None:
        ms = number(field)
        return None if ms is None else moment(ms)

    try:
        result = serialization.loads(record["result"]) if "result" in record else None
    except DecodeError:
        result = None
    return JobProgress(
        name=job.name,
        source=job.source,
        window=job.window,
        queue=job.queue,
        status=text("status") or "never",
        run=text("run"),
        start=instant("from"),
        end=instant("to"),
        done=number("done") or 0,
        total=number("total"),
        missed=number("missed") or 0,
        position=text("position"),
        started=instant("started"),
        seen=instant("seen"),
        finished=instant("finished"),
        error=text("error"),
        result=result,
    )
