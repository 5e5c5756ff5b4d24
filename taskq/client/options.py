"""The options of a task and of a call: their names and types, checked into plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from taskq.errors import ConfigError, UnknownOptionError
from taskq.values.batch import Batch
from taskq.values.checks import check_flag, shown
from taskq.values.config import check_name, check_priority
from taskq.values.durations import Duration, milliseconds, seconds
from taskq.values.message import Meta, check_id
from taskq.values.rates import RateLimit
from taskq.values.retry import RetryPolicy
from taskq.values.topics import check_instant

if TYPE_CHECKING:
    from taskq.client.app import TaskQ

Exceptions = type[BaseException] | Iterable[type[BaseException]]


class TaskSettings(TypedDict, total=False):
    """What ``@app.task(...)`` takes besides ``name``, ``bind`` and ``batch``.

    Durations: seconds, ``timedelta`` or ``"5m"``.
    """

    queue: str
    priority: int
    """0 to 9; higher is sooner."""
    max_retries: int | None
    """Retries after the first attempt: attempts = 1 + retries. Default 3; 0 turns them off; None: no limit."""
    retry_backoff: bool | Duration
    """First wait; it doubles with each retry. Default 1 s."""
    retry_backoff_max: Duration
    """Longest wait. Default 10 min."""
    retry_jitter: bool
    """Full jitter: wait between zero and the backoff. Default True."""
    autoretry_for: Exceptions
    dont_autoretry_for: Exceptions
    wait: Any
    """A tenacity ``wait_*`` object instead of the backoff."""
    stop: Any
    """A tenacity ``stop_*`` object instead of ``max_retries``."""
    retry: Any
    """A tenacity ``retry_if_*`` object instead of ``autoretry_for``."""
    delivery: Literal["at_least_once", "at_most_once"]
    """``at_least_once`` (default): settled when it has ended, so it runs again when its worker dies.
    ``at_most_once``: settled before it runs; it never starts twice, is never retried, and may be lost."""
    when_unavailable: Literal["raise", "spool", "drop"]
    """What ``.delay()`` does when Redis cannot be reached in time: ``raise``; ``spool`` to local disk (the default
    where ``spool_path`` is set); ``drop`` the message with a warning, for what is not worth an error."""
    ignore_result: bool
    result_expires: Duration
    failure_expires: Duration
    soft_time_limit: Duration
    time_limit: Duration
    expires: Duration
    """A message not started this long after it was sent (or due) ends EXPIRED."""
    rate_limit: str
    """``"100/s"``, ``"10/2s"``, ``"600/m"``: at most so many starts in any window of that length, over all workers.
    Counted for each queue. Messages wait in Redis; see ``docs/batch.md``."""
    dlq_replay: bool | str
    """Whether its dead letters are replayed by ``dlq_replay_schedule``, or its own cron line for that. Default: they
    are, but for a task that runs at most once."""


class CallSettings(TypedDict, total=False):
    """What ``.options(...)`` and ``.apply_async(...)`` take."""

    countdown: Duration
    """Not before this long from now."""
    eta: datetime
    """Not before this instant; timezone-aware."""
    expires: Duration | datetime
    """Must not start after this long (counted from when it is due), or after this instant."""
    queue: str
    priority: int
    task_id: str
    """Your own id. The same id is accepted once within a day, whoever sends it."""
    idempotency_key: str
    """A second message to this task with the same key does not run while the first one has not failed for good, nor
    for ``idempotency_expires`` after its success. See ``docs/idempotency.md``."""
    ordering_key: str
    """Messages with the same key run one after the other, in the order in which they came into the queue, also across
    retries and crashes; others run meanwhile."""
    headers: Mapping[str, Any]
    ignore_result: bool
    soft_time_limit: Duration
    time_limit: Duration
    max_retries: int


_RETRY_SETTINGS = (
    "max_retries",
    "retry_backoff",
    "retry_backoff_max",
    "retry_jitter",
    "autoretry_for",
    "dont_autoretry_for",
    "wait",
    "stop",
    "retry",
)


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """The checked settings of a task; durations in seconds."""

    queue: str
    priority: int
    when_unavailable: str
    at_most_once: bool
    retry_policy: RetryPolicy
    ignore_result: bool
    result_ttl_ms: int
    failure_ttl_ms: int
    soft_time_limit: float | None
    time_limit: float | None
    expires: float | None
    dlq_replay: bool | str | None = None
    batch: Batch | None = None
    rate_limit: RateLimit | None = None

    @classmethod
    def build(cls, app: TaskQ, settings: Mapping[str, Any], name: str) -> TaskOptions:
        """Check *settings* of task *name*; what is missing comes from the app's configuration.

        Raises:
            UnknownOptionError: a setting that does not exist.
            ConfigError: a value that cannot be used.
        """
        for key in settings:
            if key not in TaskSettings.__annotations__ and key != "batch":
                known = [*TaskSettings.__annotations__, "batch", "name", "bind"]
                raise UnknownOptionError(key, known, f"task {name}")
        config = app.config
        at_most_once = _at_most_once(settings.get("delivery", DELIVERIES[0]), name)
        where = f"task {name}"

        def duration(key: str, default: float | None) -> float | None:
            value = settings.get(key)
            return default if value is None else seconds(value, f"{where}: {key}")

        soft, hard = duration("soft_time_limit", None), duration("time_limit", None)
        limits = check_limits((soft, hard), (config.task_soft_time_limit, config.task_time_limit), where, "the app's")
        return cls(
            queue=check_name(settings.get("queue", config.task_default_queue), "queue"),
            priority=check_priority(settings.get("priority", config.task_default_priority)),
            when_unavailable=_fallback(settings.get("when_unavailable"), config.spool_path is not None, name),
            at_most_once=at_most_once,
            retry_policy=RetryPolicy.build(**{k: settings[k] for k in _RETRY_SETTINGS if k in settings}),
            ignore_result=_flag(settings, "ignore_result", config.task_ignore_result, f"task {name}: "),
            result_ttl_ms=max(milliseconds(settings.get("result_expires", config.result_expires)), 1),
            failure_ttl_ms=max(milliseconds(settings.get("failure_expires", config.failure_expires)), 1),
            soft_time_limit=limits[0],
            time_limit=limits[1],
            expires=duration("expires", None),
            dlq_replay=_dlq_replay(settings.get("dlq_replay"), name),
            batch=_batch(settings.get("batch"), at_most_once, name),
            rate_limit=_rate_limit(settings, name),
        )


Limits = tuple[float | None, float | None]
"""Soft and hard time limit, in seconds."""


def check_limits(given: Limits, inherited: Limits, where: str, whose: str) -> Limits:
    """The limits that hold: those *given*, else those *inherited*, which are *whose*.

    Raises:
        ConfigError: the soft one is above the hard one, so that it could never strike.
    """
    soft, hard = (own if own is not None else other for own, other in zip(given, inherited, strict=True))
    if soft is not None and hard is not None and soft > hard:
        names = [
            f"{'' if own is not None else f'{whose} '}{name} ({limit:.10g} s)"
            for own, name, limit in zip(given, ("soft_time_limit", "time_limit"), (soft, hard), strict=True)
        ]
        raise ConfigError(f"{where}: {names[0]} is above {names[1]}; write a soft_time_limit of at most {hard:.10g} s")
    return soft, hard


def _dlq_replay(value: object, name: str) -> bool | str | None:
    if value is None or isinstance(value, (bool, str)):
        return value
    raise ConfigError(f"task {name}: dlq_replay must be True, False or a cron line, not {shown(value)}")


def _batch(value: object, at_most_once: bool, name: str) -> Batch | None:
    if value is not None and not isinstance(value, Batch):
        raise ConfigError(f"task {name}: write batch=Batch(size=..., wait=...), not {shown(value)}")
    if value is not None and at_most_once:
        raise ConfigError(f"task {name}: a batch task cannot have delivery='at_most_once'")
    return value


def _rate_limit(settings: Mapping[str, Any], name: str) -> RateLimit | None:
    if settings.get("rate_limit") is None:
        return None
    if settings.get("batch") is not None:
        raise ConfigError(f"task {name}: a batch task cannot have a rate_limit; limit what sends its calls")
    return RateLimit.parse(settings["rate_limit"], f"task {name}: rate_limit")


def _flag(settings: Mapping[str, Any], key: str, default: bool, where: str = "") -> bool:
    value = settings.get(key)
    return default if value is None else check_flag(value, f"{where}{key}")


DELIVERIES = ("at_least_once", "at_most_once")


def _at_most_once(value: object, name: str) -> bool:
    if value not in DELIVERIES:
        raise ConfigError(f"task {name}: delivery must be one of {', '.join(DELIVERIES)}, not {shown(value)}")
    return value == DELIVERIES[1]


FALLBACKS = ("raise", "spool", "drop")


def _fallback(value: str | None, has_spool: bool, name: str) -> str:
    if value is None:
        return "spool" if has_spool else "raise"
    if value not in FALLBACKS:
        raise ConfigError(f"task {name}: when_unavailable must be one of {', '.join(FALLBACKS)}, not {shown(value)}")
    if value == "spool" and not has_spool:
        raise ConfigError(f"task {name}: when_unavailable='spool' needs the setting spool_path")
    return value


@dataclass(frozen=True, slots=True)
class CallPlan:
    """The checked settings of one call."""

    queue: str
    priority: int
    meta: Meta | None = None
    task_id: str | None = None
    countdown: float | None = None
    eta: datetime | None = None
    expires: float | datetime | None = None
    ignore_result: bool = False
    fallback: str = "raise"
    extra: dict[str, Any] = field(default_factory=dict)
    """Fields of the meta that the caller set."""

    @property
    def plain(self) -> bool:
        """Whether every call with this plan has the same meta and leaves at once."""
        return self.countdown is None and self.eta is None and self.expires is None and self.task_id is None


def call_plan(
    settings: CallSettings | Mapping[str, Any],
    *,
    where: str,
    queue: str,
    priority: int,
    ignore_result: bool = False,
    expires: float | None = None,
    fallback: str = "raise",
    limits: Limits = (None, None),
) -> CallPlan:
    """Check the settings of a call; what is missing comes from the keyword arguments.

    *limits* are the task's time limits, which hold where the call names none.

    Raises:
        UnknownOptionError: a setting that does not exist.
        ConfigError: a value that cannot be used.
    """
    for key in settings:
        if key not in CallSettings.__annotations__:
            raise UnknownOptionError(key, CallSettings.__annotations__, where)
    given: dict[str, Any] = {key: value for key, value in settings.items() if value is not None}
    level = check_priority(given.get("priority", priority))
    ignored = _flag(given, "ignore_result", ignore_result)
    extra = _extra_meta(given, where)
    if "soft_time_limit" in extra or "time_limit" in extra:
        check_limits((extra.get("soft_time_limit"), extra.get("time_limit")), limits, where, "the task's")
    if level != Meta().priority:
        extra["priority"] = level
    if ignored != ignore_result:
        extra["ignore_result"] = ignored
    return CallPlan(
        queue=check_name(given["queue"], "queue") if "queue" in given else queue,
        priority=level,
        meta=Meta(**extra) if extra else None,
        task_id=check_id(given["task_id"]) if "task_id" in given else None,
        countdown=seconds(given["countdown"], "countdown") if "countdown" in given else None,
        eta=check_instant(given["eta"], "eta") if "eta" in given else None,
        expires=_expiry(given.get("expires", expires)),
        ignore_result=ignored,
        fallback=fallback,
        extra=extra,
    )


def _extra_meta(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if "countdown" in given and "eta" in given:
        raise ConfigError(f"{where} takes countdown or eta, not both")
    if "headers" in given:
        extra["headers"] = _headers(given["headers"])
    if "idempotency_key" in given:
        extra["idempotency_key"] = check_id(given["idempotency_key"], "idempotency_key")
    if "ordering_key" in given:
        extra["ordering_key"] = check_id(given["ordering_key"], "ordering_key")
    if "max_retries" in given:
        extra["max_retries"] = RetryPolicy.build(max_retries=given["max_retries"]).max_retries
    for key in ("soft_time_limit", "time_limit"):
        if key in given:
            extra[key] = seconds(given[key], key)
    return extra


def _headers(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"headers must be a mapping of text to values, such as {{'tenant': 7}}, not {shown(value)}")
    return dict(value)


def _expiry(value: Duration | datetime | None) -> float | datetime | None:
    if value is None:
        return None
    return check_instant(value, "expires") if isinstance(value, datetime) else seconds(value, "expires")
