"""What becomes of a function that is registered: its name, the checks, the task."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskq.checks import check_flag, check_text, shown
from taskq.errors import ConfigError
from taskq.options import TaskOptions
from taskq.task import AsyncTask, BaseTask, Task

if TYPE_CHECKING:
    from taskq.app.application import TaskQ


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
    if not callable(function) or isinstance(function, (type, BaseTask)):
        raise ConfigError(f"@app.task wants a function, not {shown(function)}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"{function.__qualname__} is a generator; a task is an ordinary or async function")
    check_flag(bind, "bind")
    task_name = default_name(function) if name is None else check_text(name, "the name of a task")
    known = app.tasks.get(task_name)
    if known is not None and not _same_source(known.function, function):
        raise ConfigError(f"the task name {task_name!r} is taken by {known.function!r}; give name= to one of them")
    is_async = inspect.iscoroutinefunction(function)
    kind = AsyncTask if is_async else Task
    options = TaskOptions.build(app, settings, task_name)
    if group_queue is not None:
        options = dataclasses.replace(options, queue=group_queue)
    if options.batch is not None:
        _check_batch_function(function, bind or group_queue is not None, task_name)
    return kind(app, function, task_name, bind=bind, is_async=is_async, options=options)


def default_name(function: Callable[..., Any]) -> str:
    """The name of a task that was given none: ``module.function``."""
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
