"""What kind of function a user gave: async, a generator, neither; and whether what it returned has run at all."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping
from contextlib import suppress
from itertools import starmap
from typing import Any

from taskq.errors import ConfigError

_PLAIN = frozenset({type(None), bool, int, float, str, bytes})
_MOST_LOOKED_AT = 100
"""Items of a returned collection that are looked at: one that holds coroutines mostly holds nothing else."""


def body(function: Any) -> Any:
    """What runs when *function* is called: below ``functools.partial``, methods and the ``__call__`` of an object."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, (staticmethod, classmethod)) or inspect.ismethod(function):
            function = function.__func__
        elif not inspect.isroutine(function) and inspect.isfunction(getattr(type(function), "__call__", None)):  # noqa: B004
            return type(function).__call__
        else:
            return function


def is_async(function: Any) -> bool:
    """Whether a call of *function* gives a coroutine: ``async def``, or an object with an async ``__call__``."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(body(function))


def is_generator(function: Any) -> bool:
    """Whether a call of *function* gives a generator, ordinary or async, and so runs nothing of it."""
    inner = body(function)
    return inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner)


def check_ordinary(function: Callable[..., Any], what: str) -> None:
    """Raise when *function* cannot be called where it is needed: its answer is wanted at once.

    Raises:
        ConfigError: it is async or a generator.
    """
    if is_async(function) or is_generator(function):
        raise ConfigError(f"{what} must be a sync function, not an async one or a generator: it is called at once")


def never_ran(value: object) -> str | None:
    """Why *value*, which a function returned, is work that has not run; None for everything else.

    A coroutine is closed, so that Python does not complain about it a second time.
    """
    kind = type(value)
    if kind in _PLAIN:
        return None
    if isinstance(value, (list, tuple, set, frozenset)):
        return _never_ran_in(list(value)[:_MOST_LOOKED_AT])
    if isinstance(value, Mapping):
        return _never_ran_in(list(value.values())[:_MOST_LOOKED_AT])
    if isinstance(value, Coroutine):
        with suppress(Exception):  # one that is running somewhere else
            value.close()
        name = getattr(value, "__qualname__", kind.__name__)
        return f"it returned the coroutine {name!r}, which nobody has awaited, so it never ran; {_AWAIT}"
    if isinstance(value, (Generator, AsyncGenerator, map, filter, starmap)):
        return f"it returned a {kind.__name__}, which runs nothing until somebody loops over it; do that in the task"
    if isinstance(value, (asyncio.Future, concurrent.futures.Future)):
        return f"it returned a {kind.__name__}, whose work may not have ended; wait for it and return its value"
    # a Result is awaitable too, but its message was sent
    if isinstance(value, Awaitable) and kind.__module__ != "taskq.client.result":
        return f"it returned a {kind.__name__} that nobody has awaited; {_AWAIT}"
    return None


_AWAIT = "make the task (and each decorator's wrapper of it) an async def that awaits it"


def _never_ran_in(items: list[Any]) -> str | None:
    for item in items:
        # deeper than one level nobody looks: such a value is mostly plain data, and it may be large
        if not isinstance(item, (list, tuple, set, frozenset, Mapping)) and (why := never_ran(item)) is not None:
            return why
    return None
