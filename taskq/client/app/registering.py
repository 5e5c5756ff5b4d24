"""What becomes of a function that is registered: its name, the checks, the task."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from taskq.client.app import definitions
from taskq.client.app.naming import default_name, only_here
from taskq.client.options import TaskOptions
from taskq.client.task import AsyncTask, BaseTask, Task
from taskq.errors import ConfigError
from taskq.values.checks import check_flag, check_text, shown
from taskq.values.functions import body, is_async, is_generator

if TYPE_CHECKING:
    from taskq.client.app.application import TaskQ


def make_task(
    app: TaskQ,
    function: Callable[..., Any],
    *,
    name: str | None,
    bind: bool,
    settings: Mapping[str, Any],
    group_queue: str | None,
) -> BaseTask[Any, Any]:
    """The task that *function* becomes in *app*, which does not know it yet.

    Raises:
        ConfigError: not a function, a bad setting, or the name is taken by another function.
    """
    check_flag(bind, "bind")
    function = check_task_function(function, "@app.task", bound=bind)
    task_name = default_name(function) if name is None else check_text(name, "the name of a task")
    place = definitions.here()
    if (known := app.tasks.get(task_name)) is not None:
        definitions.check_same(task_name, (known.function, app.places[task_name]), (function, place))
    kind = AsyncTask if is_async(function) else Task
    options = TaskOptions.build(app, settings, task_name)
    if group_queue is not None:
        options = dataclasses.replace(options, queue=group_queue)
    if options.batch is not None:
        _check_batch_function(function, bind or group_queue is not None, task_name)
    task: BaseTask[Any, Any] = kind(app, function, task_name, bind=bind, is_async=kind is AsyncTask, options=options)
    app.places[task_name] = place
    if name is None and only_here(task_name):
        task.warn_at_first_send(
            f"no worker can import task {task_name!r}: it was defined by hand or in a notebook. Put it into a "
            "module, or give name='...' to it here and in the module that workers load"
        )
    return task


def check_task_function(function: Any, where: str, *, bound: bool = False) -> Callable[..., Any]:
    """*function*, out of its ``staticmethod``, if a worker can call it with the arguments of a message.

    Args:
        function: what was given.
        where: the decorator, for the error.
        bound: whether its first argument is the context.

    Raises:
        ConfigError: a class, a generator, a method, or no function at all.
    """
    if isinstance(function, staticmethod):
        function = function.__func__
    if isinstance(function, classmethod):
        raise ConfigError(f"{where} cannot take a classmethod: {_NO_SELF}")
    if not callable(function) or isinstance(function, (type, BaseTask)):
        raise ConfigError(f"{where} wants a function, not {shown(function)}")
    if is_generator(function):
        text = getattr(function, "__qualname__", None) or shown(function)
        raise ConfigError(f"{text} is a generator; a task is an ordinary or async function")
    if not bound and _is_method(function):
        raise ConfigError(f"{where} cannot take the method {function.__qualname__}: {_NO_SELF}")
    return function  # type: ignore[no-any-return]


_NO_SELF = (
    "a message has no object to call it on. Write a function or a staticmethod (@staticmethod above @app.task) that is "
    "given an id to find the object by"
)


def _is_method(function: Any) -> bool:
    """Whether *function* stands in a class and takes its object first, and is bound to none."""
    if not inspect.isfunction(function) or function.__qualname__.rpartition(".")[0].rpartition(".")[2] in (
        "",
        "<locals>",
    ):
        return False
    first = body(function).__code__.co_varnames[:1]
    return first in (("self",), ("cls",)) and function.__code__.co_argcount > 0


def _check_batch_function(function: Callable[..., Any], bound: bool, name: str) -> None:
    if bound:
        raise ConfigError(f"batch task {name} cannot be bound or a subscriber: its function takes a list of items")
    try:
        inspect.signature(function).bind([])
    except ValueError:  # written in C, without a signature
        return
    except TypeError:
        raise ConfigError(f"batch task {name}: its function takes one argument, the list of items") from None
