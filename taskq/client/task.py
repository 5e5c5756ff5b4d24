"""The task: a registered function, and the ways to send a message that calls it."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    Unpack,
    overload,
)

from taskq.broker.producer import Outgoing
from taskq.broker.scripts import MAX_PER_CALL
from taskq.client.context import Context
from taskq.client.options import CallPlan, CallSettings, TaskOptions, TaskSettings, call_plan
from taskq.client.result import Result
from taskq.client.signature import signature_check
from taskq.errors import ArgumentsError, BrokerUnavailableError, ConfigError
from taskq.values.batch import Batch, BatchItem
from taskq.values.checks import check_function, check_items, named, positional
from taskq.values.message import WIRE_VERSION, Message, Meta, encode, new_id, wire_id
from taskq.values.plain import changes

if TYPE_CHECKING:
    from taskq.client.app import TaskQ

logger = logging.getLogger("taskq.task")

_WATCHED = 100
"""Calls of each task in each process whose arguments are looked at, for the warning about types."""
_CHANGES = (
    "%s: an argument of type %s arrives as %s, as messages carry plain data. Send that, and make of it what you need "
    "in the task; docs/wire-format.md has the table"
)

P = ParamSpec("P")
R = TypeVar("R")
AnyTask = TypeVar("AnyTask", bound="BaseTask[Any, Any]")


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
        self.fenced = False
        """Whether its function proves to Redis that it still owns its message: then a child process must know it."""
        self.__name__ = getattr(function, "__name__", name)
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__wrapped__ = function
        self._check = self._watched(_call_check(function, bind, options.batch))
        self._plan = _call_plan(self, {})

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    def _watched(self, check: Callable[..., None]) -> Callable[..., None]:
        """*check*, which also tells of the first calls which arguments change their type; later ones pay nothing."""
        told: set[str] = set()
        left = itertools.count(_WATCHED - 1, -1)

        def watch(*args: Any, **kwargs: Any) -> None:
            check(*args, **kwargs)
            for kind, arrives in changes([*args, *kwargs.values()]):
                if kind not in told:
                    told.add(kind)
                    logger.warning(_CHANGES, self.name, kind, arrives)
            if next(left) <= 0:
                self._check = check

        return watch

    def warn_at_first_send(self, warning: str) -> None:
        """Log *warning* when a message to this task is first made; a call costs nothing more after that."""
        check = self._check

        def warn(*args: Any, **kwargs: Any) -> None:
            self._check = check
            logger.warning(warning)
            check(*args, **kwargs)

        self._check = warn

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send a message that calls the task with these arguments.

        When this returns, the message is accepted: it will run, or its end will be recorded.

        Raises:
            ArgumentsError: the arguments do not fit the function; it is a TypeError too.
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
        return self._send(positional(args), named(kwargs), _call_plan(self, settings))

    async def aapply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **settings: Unpack[CallSettings],
    ) -> Result[R]:
        """As :meth:`apply_async`, without blocking the event loop."""
        return await self._asend(positional(args), named(kwargs), _call_plan(self, settings))

    def delay_many(self, calls: Iterable[Sequence[Any]]) -> list[Result[R]]:
        """Send one message per argument tuple, a thousand to a round trip.

        Raises:
            ConfigError, SerializationError: a tuple does not fit; then nothing is sent.
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

    def delay_all(self, calls: Iterable[Sequence[Any]], *, progress: Callable[[int], object] | None = None) -> int:
        """Send one message per argument tuple, however many there are: a page at a time, keeping none of them.

        Args:
            calls: read lazily, so that ten million rows of a cursor take no memory.
            progress: called after each page with how many were accepted so far; it may draw a progress bar.

        Returns:
            How many were sent.

        Raises:
            ConfigError, SerializationError: a tuple does not fit; pages before it were accepted.
            BrokerError: Redis did not accept a page in time; pages before it were accepted.
        """
        if progress is not None:
            check_function(progress, "progress")
        sent = 0
        rest = iter(check_items(calls, "calls"))
        while page := list(itertools.islice(rest, MAX_PER_CALL)):
            self.app.send(self._prepare_many(page)[0])
            sent += len(page)
            if progress is not None:
                progress(sent)
        return sent

    def prepared(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Outgoing, Result[R]]:
        """The message of a call and its handle, without sending it: for what keeps messages itself, as an outbox does.

        Raises:
            ArgumentsError, SerializationError: as :meth:`delay`.
        """
        return self._prepare(args, kwargs, self._plan)

    def _prepare_many(self, calls: Iterable[Sequence[Any]]) -> tuple[list[Outgoing], list[Result[R]]]:
        outgoing: list[Outgoing] = []
        results: list[Result[R]] = []
        for args in check_items(calls, "calls"):
            message, result = self._prepare(positional(args, "each call"), {}, self._plan)
            outgoing.append(message)
            results.append(result)
        return outgoing, results

    def _send(self, args: tuple[Any, ...], kwargs: dict[str, Any], plan: CallPlan) -> Result[R]:
        message, result = self._prepare(args, kwargs, plan)
        try:
            self.app.send((message,))
        except BrokerUnavailableError as error:
            raise error.with_traceback(None) from None  # its text says all: what our code did tells nobody more
        return result

    async def _asend(self, args: tuple[Any, ...], kwargs: dict[str, Any], plan: CallPlan) -> Result[R]:
        message, result = self._prepare(args, kwargs, plan)
        try:
            await self.app.asend(message)
        except BrokerUnavailableError as error:
            raise error.with_traceback(None) from None
        return result

    def check_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Whether the task can be called so.

        Raises:
            ArgumentsError: the arguments do not fit.
        """
        self._fits(positional(args), named(kwargs))

    def _fits(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self._check(*args, **kwargs)
        except TypeError as error:
            raise ArgumentsError(f"{self.name} does not take these arguments: {error}") from None

    def _prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any], plan: CallPlan) -> tuple[Outgoing, Result[R]]:
        self._fits(args, kwargs)
        return prepare(self.app, self.name, args, kwargs, plan)


def _call_check(function: Callable[..., Any], bind: bool, batch: Batch | None) -> Callable[..., None]:
    """What checks the arguments of a call. Those of a batch task are not its function's, but those of ``by``."""
    try:
        if batch is None:
            return signature_check(function, skip_first=bind)
        return signature_check(batch.by or _anything, skip_first=False)
    except ValueError:  # written in C, without a signature
        return _anything


def _anything(*args: Any, **kwargs: Any) -> None:
    """Takes whatever a call may have."""


class Task(BaseTask[P, R]):
    """A task over a sync function."""

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
        limits=(options.soft_time_limit, options.time_limit),
    )


class Registrar(Protocol):
    """What ``@app.task(...)`` returns: registers a function, and keeps its types."""

    @overload
    def __call__(  # type: ignore[overload-overlap] # a coroutine function is the narrower case, and comes first
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class PeriodicRegistrar(Protocol):
    """What ``@app.periodic(...)`` returns: a task stays what it is, a function becomes one."""

    @overload
    def __call__(self, task: AnyTask, /) -> AnyTask: ...
    @overload
    def __call__(  # type: ignore[overload-overlap] # as above
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
    """What ``@app.task(bind=True, ...)`` returns: the context is not part of the call."""

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
