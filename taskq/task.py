"""The task: a registered function, and the ways to send a message that calls it."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from taskq.batch import Batch, BatchItem
from taskq.broker.producer import Outgoing
from taskq.config import check_name, check_priority
from taskq.context import Context
from taskq.durations import Duration, milliseconds, seconds
from taskq.errors import ConfigError, UnknownOptionError
from taskq.message import WIRE_VERSION, Message, Meta, check_id, encode, new_id, wire_id
from taskq.rate_limit import RateLimit
from taskq.result import Result
from taskq.retry import RetryPolicy
from taskq.signature import signature_check

if TYPE_CHECKING:
    from taskq.app import TaskQ

P = ParamSpec("P")
R = TypeVar("R")
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

        def duration(key: str, default: float | None) -> float | None:
            value = settings.get(key)
            return default if value is None else seconds(value, f"task {name}: {key}")

        return cls(
            queue=check_name(settings.get("queue", config.task_default_queue), "queue"),
            priority=check_priority(settings.get("priority", config.task_default_priority)),
            when_unavailable=_fallback(settings.get("when_unavailable"), config.spool_path is not None, name),
            at_most_once=at_most_once,
            retry_policy=RetryPolicy.build(**{k: settings[k] for k in _RETRY_SETTINGS if k in settings}),
            ignore_result=bool(settings.get("ignore_result", config.task_ignore_result)),
            result_ttl_ms=max(milliseconds(settings.get("result_expires", config.result_expires)), 1),
            failure_ttl_ms=max(milliseconds(settings.get("failure_expires", config.failure_expires)), 1),
            soft_time_limit=duration("soft_time_limit", config.task_soft_time_limit),
            time_limit=duration("time_limit", config.task_time_limit),
            expires=duration("expires", None),
            batch=_batch(settings.get("batch"), at_most_once, name),
            rate_limit=_rate_limit(settings, name),
        )


def _batch(value: object, at_most_once: bool, name: str) -> Batch | None:
    if value is not None and not isinstance(value, Batch):
        raise ConfigError(f"task {name}: write batch=Batch(size=..., wait=...), not {value!r}")
    if value is not None and at_most_once:
        raise ConfigError(f"task {name}: a batch task cannot have delivery='at_most_once'")
    return value


def _rate_limit(settings: Mapping[str, Any], name: str) -> RateLimit | None:
    if settings.get("rate_limit") is None:
        return None
    if settings.get("batch") is not None:
        raise ConfigError(f"task {name}: a batch task cannot have a rate_limit; limit what sends its calls")
    return RateLimit.parse(settings["rate_limit"], f"task {name}: rate_limit")


DELIVERIES = ("at_least_once", "at_most_once")


def _at_most_once(value: object, name: str) -> bool:
    if value not in DELIVERIES:
        raise ConfigError(f"task {name}: delivery must be one of {', '.join(DELIVERIES)}, not {value!r}")
    return value == DELIVERIES[1]


FALLBACKS = ("raise", "spool", "drop")


def _fallback(value: str | None, has_spool: bool, name: str) -> str:
    if value is None:
        return "spool" if has_spool else "raise"
    if value not in FALLBACKS:
        raise ConfigError(f"task {name}: when_unavailable must be one of {', '.join(FALLBACKS)}, not {value!r}")
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


class BaseTask(Generic[P, R]):
    """A registered function. Made by ``@app.task``; calling it runs the function here and now."""

    def __init__(
        self, app: TaskQ, function: Callable[..., Any], name: str, *, bind: bool, is_async: bool, options: TaskOptions
    ) -> None:
        self.app = app
        self.function = function
        self.name = name
        self.bind = bind
        self.is_async = is_async
        self.settings = options
        self.limited = options.soft_time_limit is not None or options.time_limit is not None
        """Whether every run has a time limit."""
        self.__name__ = getattr(function, "__name__", name)
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__wrapped__ = function
        self._check = _call_check(function, bind, options.batch)
        self._plan = _call_plan(self, {})

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send a message that calls the task with these arguments.

        When this returns, the message is accepted: it will run, or its end will be recorded.

        Raises:
            TypeError: the arguments do not fit the function.
            SerializationError: an argument has no wire form.
            BrokerError: Redis did not accept it within ``broker_deadline``. After BrokerUnavailableError the
                message may or may not have been accepted, but it never exists twice.
        """
        return self._send(args, kwargs, self._plan)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """As :meth:`delay`, without blocking the event loop. Concurrent calls leave together."""
        return await self._asend(args, kwargs, self._plan)

    def options(self, **settings: Unpack[CallSettings]) -> BoundOptions[P, R]:
        """The task with other settings for the calls that follow: ``task.options(countdown=60).delay(1)``.

        Raises:
            UnknownOptionError: a setting that does not exist.
            ConfigError: a value that cannot be used.
        """
        return BoundOptions(self, _call_plan(self, settings))

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **settings: Unpack[CallSettings],
    ) -> Result[R]:
        """Send with arguments as sequence and mapping, as in Celery; prefer the typed ``.options(...).delay(...)``."""
        return self._send(tuple(args), dict(kwargs or {}), _call_plan(self, settings))

    async def aapply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **settings: Unpack[CallSettings],
    ) -> Result[R]:
        """As :meth:`apply_async`, without blocking the event loop."""
        return await self._asend(tuple(args), dict(kwargs or {}), _call_plan(self, settings))

    def delay_many(self, calls: Iterable[Sequence[Any]]) -> list[Result[R]]:
        """Send one message per argument tuple, a thousand to a round trip.

        Raises:
            TypeError, SerializationError: a tuple does not fit; then nothing is sent.
            BrokerError: Redis did not accept a page in time; pages before it were accepted.
        """
        outgoing, results = self._prepare_many(calls)
        self.app.send(outgoing)
        return results

    async def adelay_many(self, calls: Iterable[Sequence[Any]]) -> list[Result[R]]:
        """As :meth:`delay_many`, without blocking the event loop."""
        outgoing, results = self._prepare_many(calls)
        await self.app.asend_many(outgoing)
        return results

    def prepared(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Outgoing, Result[R]]:
        """The message of a call and its handle, without sending it: for what keeps messages itself, as an outbox does.

        Raises:
            TypeError, SerializationError: as :meth:`delay`.
        """
        return self._prepare(args, kwargs, self._plan)

    def _prepare_many(self, calls: Iterable[Sequence[Any]]) -> tuple[list[Outgoing], list[Result[R]]]:
        outgoing: list[Outgoing] = []
        results: list[Result[R]] = []
        for args in calls:
            message, result = self._prepare(tuple(args), {}, self._plan)
            outgoing.append(message)
            results.append(result)
        return outgoing, results

    def _send(self, args: tuple[Any, ...], kwargs: dict[str, Any], plan: CallPlan) -> Result[R]:
        message, result = self._prepare(args, kwargs, plan)
        self.app.send((message,))
        return result

    async def _asend(self, args: tuple[Any, ...], kwargs: dict[str, Any], plan: CallPlan) -> Result[R]:
        message, result = self._prepare(args, kwargs, plan)
        await self.app.asend(message)
        return result

    def check_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Whether the task can be called so.

        Raises:
            TypeError: the arguments do not fit.
        """
        self._check(*args, **kwargs)

    def _prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any], plan: CallPlan) -> tuple[Outgoing, Result[R]]:
        self._check(*args, **kwargs)
        return prepare(self.app, self.name, args, kwargs, plan)


def _call_check(function: Callable[..., Any], bind: bool, batch: Batch | None) -> Callable[..., None]:
    """What checks the arguments of a call. Those of a batch task are not its function's, but those of ``by``."""
    if batch is None:
        return signature_check(function, skip_first=bind)
    try:
        return signature_check(batch.by or _anything, skip_first=False)
    except ValueError:  # written in C, without a signature
        return _anything


def _anything(*args: Any, **kwargs: Any) -> None:
    """Takes whatever a call may have."""


class Task(BaseTask[P, R]):
    """A task over an ordinary function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here, without any queue."""
        return self.function(*args, **kwargs)  # type: ignore[no-any-return]


class AsyncTask(BaseTask[P, R]):
    """A task over an ``async def`` function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run the function here, without any queue."""
        return self.function(*args, **kwargs)  # type: ignore[no-any-return]


class BoundOptions(Generic[P, R]):
    """A task with settings for its next calls; made by :meth:`BaseTask.options`."""

    __slots__ = ("_plan", "_task")

    def __init__(self, task: BaseTask[P, R], plan: CallPlan) -> None:
        self._task = task
        self._plan = plan

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """As :meth:`BaseTask.delay`."""
        return self._task._send(args, kwargs, self._plan)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """As :meth:`BaseTask.adelay`."""
        return await self._task._asend(args, kwargs, self._plan)

    def prepared(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Outgoing, Result[R]]:
        """As :meth:`BaseTask.prepared`."""
        return self._task._prepare(args, kwargs, self._plan)


def prepare(
    app: TaskQ, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], plan: CallPlan
) -> tuple[Outgoing, Result[Any]]:
    """The message of one call, encoded, and its handle. Nothing is sent.

    Raises:
        SerializationError: an argument has no wire form.
    """
    raw_id = new_id() if plan.task_id is None else wire_id(plan.task_id)
    meta, due, when_ms = (plan.meta, None, 0) if plan.plain else _timed(plan)
    message = Message(WIRE_VERSION, raw_id, name, args, kwargs, meta)  # type: ignore[arg-type]
    keys = app.keys.queue(plan.queue)
    lane = None if meta is None else meta.ordering_key
    outgoing = Outgoing(keys, plan.priority, encode(message), due, plan.fallback, plan.task_id, lane)
    return outgoing, Result(app, message.task_id, plan.queue, when_ms=when_ms, ignored=plan.ignore_result)


def _timed(plan: CallPlan) -> tuple[Meta | None, str | None, int]:
    """Meta, due and expected epoch milliseconds of a message whose meta depends on the present."""
    now = time.time()
    start = now + plan.countdown if plan.countdown is not None else plan.eta.timestamp() if plan.eta else now
    extra = dict(plan.extra)
    delayed = plan.countdown is not None or plan.eta is not None
    if delayed:
        extra["due"] = round(start * 1000)
    if plan.expires is not None:
        end = plan.expires.timestamp() if isinstance(plan.expires, datetime) else start + plan.expires
        extra["expires"] = max(round(end * 1000), 1)
    due = None
    if plan.countdown is not None:
        due = f"+{round(plan.countdown * 1000)}"
    elif plan.eta is not None:
        due = str(round(start * 1000))
    return Meta(**extra) if extra else None, due, extra.get("due", 0)


def _call_plan(task: BaseTask[Any, Any], settings: CallSettings | Mapping[str, Any]) -> CallPlan:
    options = task.settings
    if options.at_most_once and settings.get("ordering_key") is not None:
        raise ConfigError(f'{task.name} is delivery="at_most_once", which ends before it runs: it has no ordering_key')
    return call_plan(
        settings,
        where=f"a call of {task.name}",
        queue=options.queue,
        priority=options.priority,
        ignore_result=options.ignore_result,
        expires=options.expires,
        fallback=options.when_unavailable,
    )


def call_plan(
    settings: CallSettings | Mapping[str, Any],
    *,
    where: str,
    queue: str,
    priority: int,
    ignore_result: bool = False,
    expires: float | None = None,
    fallback: str = "raise",
) -> CallPlan:
    """Check the settings of a call; what is missing comes from the keyword arguments.

    Raises:
        UnknownOptionError: a setting that does not exist.
        ConfigError: a value that cannot be used.
    """
    for key in settings:
        if key not in CallSettings.__annotations__:
            raise UnknownOptionError(key, CallSettings.__annotations__, where)
    given: dict[str, Any] = {key: value for key, value in settings.items() if value is not None}
    level = check_priority(given.get("priority", priority))
    ignored = bool(given.get("ignore_result", ignore_result))
    extra = _extra_meta(given, where)
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
        eta=_aware(given["eta"], "eta") if "eta" in given else None,
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
        extra["headers"] = dict(given["headers"])
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


def _aware(value: object, what: str) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ConfigError(f"{what} must be a timezone-aware datetime such as datetime.now(UTC), not {value!r}")
    return value.astimezone(UTC)


def _expiry(value: Duration | datetime | None) -> float | datetime | None:
    if value is None:
        return None
    return _aware(value, "expires") if isinstance(value, datetime) else seconds(value, "expires")


class Registrar(Protocol):
    """What ``@app.task(...)`` returns: registers a function, and keeps its types."""

    @overload
    def __call__(  # type: ignore[overload-overlap] # a coroutine function is the narrower case, and comes first
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class BatchRegistrar(Protocol):
    """What ``@app.task(batch=Batch(...))`` returns: calls have whatever arguments; the function takes the items."""

    @overload
    def __call__(self, function: Callable[[list[BatchItem]], Coroutine[Any, Any, Any]], /) -> AsyncTask[..., Any]: ...
    @overload
    def __call__(self, function: Callable[[list[BatchItem]], Any], /) -> Task[..., Any]: ...


class BoundRegistrar(Protocol):
    """What ``@app.task(bind=True, ...)`` returns: the context is no part of the call."""

    @overload
    def __call__(  # type: ignore[overload-overlap] # as above
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], R], /) -> Task[P, R]: ...


class TaskDecorator:
    """``@app.task`` and ``@taskq.task``: bare, or with settings.

    Args:
        app: gives the app when a task is defined.
    """

    def __init__(self, app: Callable[[], TaskQ]) -> None:
        self._app = app

    @overload
    def __call__(  # type: ignore[overload-overlap] # as above
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def __call__(
        self, *, batch: Batch, bind: Literal[False] = ..., name: str | None = ..., **settings: Unpack[TaskSettings]
    ) -> BatchRegistrar: ...
    @overload
    def __call__(
        self, *, bind: Literal[True], name: str | None = ..., **settings: Unpack[TaskSettings]
    ) -> BoundRegistrar: ...
    @overload
    def __call__(
        self, *, bind: Literal[False] = ..., name: str | None = ..., **settings: Unpack[TaskSettings]
    ) -> Registrar: ...

    def __call__(  # type: ignore[misc] # mypy does not see that **settings takes the unpacked TypedDict
        self, function: Any = None, /, *, bind: bool = False, name: str | None = None, **settings: Any
    ) -> Any:
        """Register a function as a task.

        Args:
            bind: pass a :class:`taskq.Context` as first argument.
            name: what messages call it; default ``module.function``.
            batch: collect calls into one invocation of the function; see :class:`taskq.Batch`.
            **settings: see :class:`TaskSettings`.

        Raises:
            UnknownOptionError: a setting that does not exist.
            ConfigError: a value that cannot be used, a name that is taken.
        """
        app = self._app()
        if function is not None:
            return app.register(function, name=name, bind=bind, settings=settings)
        return lambda wrapped: app.register(wrapped, name=name, bind=bind, settings=settings)
