"""Every setting of taskq, with its unit and default.

The same names are keyword arguments of :class:`taskq.TaskQ`, ``TASKQ_<NAME>`` in the environment, and (where a
command has the flag) command line flags. What the code says wins over the environment. An empty variable is not set.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taskq.errors import ConfigError, ScheduleError, UnknownOptionError
from taskq.values import environment
from taskq.values.checks import check_count, shown
from taskq.values.durations import seconds
from taskq.values.schedule.zones import zone_of

MAX_COUNT = 10**9
"""Of any setting that counts something."""
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,100}\Z")


def check_name(value: object, what: str) -> str:
    """Return *value* if it can be part of a Redis key: 1 to 100 letters, digits, ``_``, ``-`` or ``.``.

    Raises:
        ConfigError: anything else; braces and colons would let one queue write into another's keys.
    """
    if not isinstance(value, str) or not _NAME.match(value):
        raise ConfigError(f"{what} must be 1 to 100 of A-Z a-z 0-9 _ - . and not {shown(value)}")
    return value


FIFO = "fifo:"
"""What the name of the queue of a FIFO begins with; no queue of tasks has a colon in its name."""


def is_fifo(queue: str) -> bool:
    """Whether *queue* is that of a FIFO, whose items are no calls of tasks."""
    return queue.startswith(FIFO)


def check_queue(value: object, what: str = "a queue's name") -> str:
    """Return *value* if it names a queue: of tasks, of a group (``<topic>/<group>``) or of a FIFO (``fifo:<name>``).

    Raises:
        ConfigError: it does not.
    """
    if isinstance(value, str) and is_fifo(value):
        return FIFO + check_name(value.removeprefix(FIFO), what)
    if isinstance(value, str) and value.count("/") == 1:
        topic, _, group = value.partition("/")
        return f"{check_name(topic, what)}/{check_name(group, what)}"
    return check_name(value, what)


def _duration(default: float) -> Any:
    return field(default=default, metadata={"kind": "duration"})


def _count(default: int | None, least: int = 0) -> Any:
    return field(default=default, metadata={"kind": "count", "least": least})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of one app. Durations are seconds here; a ``timedelta`` or ``"5m"`` is accepted when given."""

    broker_url: str = field(default="redis://localhost:6379/0", repr=False)
    """``redis://[user:password@]host:port/db``, ``rediss://`` for TLS, ``unix://path?db=0``.
    Without it, and without ``TASKQ_BROKER_URL``, the environment's ``REDIS_URL`` is used."""
    spool_path: str | None = field(default=None, metadata={"kind": "text"})
    """A file on local disk that keeps messages while Redis cannot be reached, and sends them when it is back.
    None: ``.delay()`` raises instead."""
    spool_limit: int = _count(100_000, least=1)
    """Most messages in the spool; then ``.delay()`` raises."""
    namespace: str = "taskq"
    """Key prefix: the first part of every Redis key."""
    broker_connection_timeout: float = _duration(5.0)
    """How long one attempt to connect may take."""
    broker_deadline: float = _duration(5.0)
    """How long ``.delay()`` and other client calls try, reconnects included, before they raise. A large message or
    result that keeps moving over a slow link may take longer."""

    task_default_queue: str = "default"
    task_default_priority: int = field(default=5, metadata={"kind": "priority"})
    """0 to 9; higher is sooner."""
    task_ignore_result: bool = False
    """Store no results unless a task asks for it."""
    task_soft_time_limit: float | None = _duration(None)  # type: ignore[arg-type]
    """After this the task is told to end; see ``SoftTimeLimitExceededError``. None: no limit."""
    task_time_limit: float | None = _duration(None)  # type: ignore[arg-type]
    """After this the attempt is ended. None: no limit."""
    result_expires: float = _duration(3600.0)
    """How long the result of a success is kept."""
    failure_expires: float = _duration(7 * 86400.0)
    """How long the error of a failure is kept as a result (the dead letter itself stays)."""
    idempotency_expires: float = _duration(86400.0)
    """How long an idempotency key is remembered after its message succeeded (and at most while it has not)."""
    revoke_expires: float = _duration(30 * 86400.0)
    """How long a revoked id is remembered while its message waits."""
    timezone: str = "UTC"
    """Zone of schedules that name none, and of times without an offset in ``taskq schedule``."""

    lease_timeout: float = _duration(15.0)
    """How long a worker owns its deliveries without a heartbeat; renewed every third of it."""
    max_crashes: int = _count(3, least=1)
    """A message whose worker died this often is dead lettered instead of run again."""
    unknown_task_delay: float = _duration(10.0)
    """How long a message whose task a worker does not know is put back for, at first."""
    unknown_task_timeout: float = _duration(3600.0)
    """After this long unknown, the message is dead lettered."""
    strict_durability: bool = False
    """Refuse to start a worker on a Redis whose settings can lose accepted tasks."""

    worker_concurrency: int = _count(8, least=1)
    """Slots for sync tasks, per worker process."""
    worker_async_concurrency: int = _count(100, least=1)
    """Slots for async tasks, per worker process."""
    worker_pool: str = field(default="threads", metadata={"kind": "pool"})
    """Where sync tasks run: ``threads``, ``processes`` or ``solo`` (one at a time, in one thread)."""
    worker_prefetch: int = _count(512, least=0)
    """Most deliveries held beyond the busy slots. Short tasks use it to hide round trips; long ones hold none."""
    worker_shutdown_timeout: float = _duration(30.0)
    """How long running tasks may finish after SIGTERM."""

    beat_schedule: Mapping[str, Any] = field(default_factory=dict, metadata={"kind": "mapping"})
    """``{name: {"task": ..., "schedule": ..., "args": ..., "kwargs": ..., "options": ..., "overlap": ...}}``."""
    schedule_history: int = _count(100)
    """How many fires of each schedule are remembered, for views. 0: none."""
    dlq_replay_schedule: str | None = field(default=None, metadata={"kind": "text"})
    """A cron line: when the dead letters of every queue are replayed. None: never by itself."""
    dlq_max_replays: int = _count(3, least=0)
    """A dead letter that was replayed this often is parked: it stays for a person to look at."""
    dlq_canary_timeout: float = _duration(300.0)
    """How long a replay by schedule waits for its canaries; others of their kind stay when they have not ended."""
    dlq_retention: float | None = _duration(None)  # type: ignore[arg-type]
    """After this long in the dead letter queue, a dead letter is deleted. None: never."""
    dlq_max_entries: int | None = _count(None)
    """Most dead letters of a queue; beyond it the oldest are deleted. None: no limit."""

    @classmethod
    def build(cls, settings: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Config:
        """The configuration from *settings*, ``TASKQ_<NAME>`` in *environ* (default ``os.environ``), then defaults.

        Raises:
            UnknownOptionError: a setting that does not exist.
            ConfigError: a value that cannot be used.
        """
        environ = os.environ if environ is None else environ
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for name in settings:
            if name not in fields:
                raise UnknownOptionError(name, fields, "the configuration")
        values: dict[str, Any] = {}
        for name, spec in fields.items():
            if settings.get(name) is not None:
                values[name] = _convert(spec, settings[name], name)
            elif (
                spec.type != "Mapping[str, Any]"
                and (text := environment.text_of(environ, f"TASKQ_{name.upper()}")) is not None
            ):
                values[name] = _convert(spec, _from_text(spec, text), f"TASKQ_{name.upper()}")
        environment.warn_of_unknown(environ, fields)
        if "broker_url" not in values and (url := environment.text_of(environ, "REDIS_URL")) is not None:
            values["broker_url"] = url
        config = cls(**values)
        config._check()
        return config

    def _check(self) -> None:
        check_name(self.namespace, "namespace")
        if self.spool_path is not None and not self.spool_path.strip():
            raise ConfigError("spool_path must be the path of a file, not empty; leave it out for none")
        check_name(self.task_default_queue, "task_default_queue")
        if self.lease_timeout < 0.3:
            raise ConfigError("lease_timeout must be at least 0.3 seconds: it is renewed every third of it")
        soft, hard = self.task_soft_time_limit, self.task_time_limit
        if soft is not None and hard is not None and soft > hard:
            raise ConfigError(f"task_soft_time_limit ({soft:.10g} s) is above task_time_limit ({hard:.10g} s)")
        try:
            zone_of(self.timezone)
        except ScheduleError as error:
            raise ConfigError(f"timezone: {error}") from None


def check_priority(value: object) -> int:
    """Return *value* if it is a whole number from 0 to 9.

    Raises:
        ConfigError: anything else.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 9:
        raise ConfigError(f"priority must be a whole number from 0 (last) to 9 (first), not {shown(value)}")
    return value


POOLS = ("threads", "processes", "solo")


def _convert(spec: dataclasses.Field[Any], value: Any, what: str) -> Any:
    match spec.metadata.get("kind"):
        case "duration":
            return seconds(value, what)
        case "count":
            least = spec.metadata["least"]
            return check_count(value, what, least, MAX_COUNT)
        case "priority":
            return check_priority(value)
        case "pool":
            if value not in POOLS:
                raise ConfigError(f"{what} must be one of {', '.join(POOLS)}, not {shown(value)}")
            return value
        case "mapping":
            if not isinstance(value, Mapping):
                raise ConfigError(f"{what} must be a mapping, not {type(value).__name__}")
            return value
    wanted: type = bool if isinstance(spec.default, bool) else str
    if not isinstance(value, wanted):
        word = "True or False" if wanted is bool else "text"
        raise ConfigError(f"{what} must be {word}, not {type(value).__name__}")  # a URL has a password
    return value


_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def _from_text(spec: dataclasses.Field[Any], text: str) -> Any:
    if isinstance(spec.default, bool):
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise ConfigError(f"TASKQ_{spec.name.upper()} must be true or false, not {text!r}")
    if spec.metadata.get("kind") in ("count", "priority"):
        try:
            return int(text)
        except ValueError:
            raise ConfigError(f"TASKQ_{spec.name.upper()} must be a whole number, not {text!r}") from None
    return text
