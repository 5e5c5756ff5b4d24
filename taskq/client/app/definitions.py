"""Where tasks are defined, and whether a second task of a name is the first one defined again.

A module that is reloaded, or a cell of a notebook that is run again, defines the same tasks a second time. Two
functions that came out of the same decorator or factory look much the same, but a message would run the wrong one.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import CellType, CodeType, FrameType, FunctionType
from typing import Any

from taskq.client.task import BaseTask
from taskq.errors import ConfigError

_OURS = ("taskq.client.app.", "taskq.client.task", "taskq.client.jobs.")
"""Modules of ours through which a function comes to be registered."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the user's code a function was made a task."""

    line: str
    """``file:line``; with where that was called from, when it is in a function."""
    run: CodeType | None
    """The code of the module that was being run; each run of a module or cell has one of its own."""
    file: str


def here() -> Place:
    """The place that registers a function now."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith(_OURS):
        frame = frame.f_back
    near, module = frame, frame
    while module is not None and not _runs_a_module(module):
        module = module.f_back
    if near is None:
        return Place("an unknown place", None, "")
    line = _line(near)
    if module is None:
        return Place(line, None, "")
    if module is not near:
        line += f" (called from {_line(module)})"
    return Place(line, module.f_code, os.path.realpath(module.f_code.co_filename))


def check_same(name: str, known: tuple[Callable[..., Any], Place], new: tuple[Callable[..., Any], Place]) -> None:
    """Raise when two functions that want to be task *name* are not one, defined again.

    Raises:
        ConfigError: a message would run the wrong one.
    """
    (one, first), (other, second) = known, new
    again = first.run is not second.run and None not in (first.run, second.run)
    if again and first.file == second.file and os.path.isfile(first.file):
        return  # the file was run again: what it defined before is out of date
    if _Comparison(strictly=not again).alike(one, other):
        return
    same_code = getattr(one, "__code__", None) is getattr(other, "__code__", one)
    wrapped = ", or functools.wraps(function) to the inner function of the decorator" if same_code else ""
    raise ConfigError(
        f"the task name {name!r} is taken by another function: defined at {first.line}, and again at {second.line}. "
        f"Give name='...' to one of them{wrapped}"
    )


def _runs_a_module(frame: FrameType) -> bool:
    return not frame.f_code.co_flags & inspect.CO_OPTIMIZED and frame.f_locals is frame.f_globals


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


class _Comparison:
    """Whether two values that tasks are made of stand for the same.

    Args:
        strictly: within one run of a module, where the same definition gives the same code.
    """

    def __init__(self, strictly: bool) -> None:
        self._strictly = strictly
        self._seen: set[tuple[int, int]] = set()

    def alike(self, one: Any, other: Any) -> bool:
        """Whether they are; what refers to itself is compared once."""
        if one is other or (id(one), id(other)) in self._seen:
            return True
        self._seen.add((id(one), id(other)))
        if one is _UNSET or other is _UNSET:
            return True
        if type(one) is not type(other):
            return False
        if isinstance(one, FunctionType):
            return self._functions(inspect.unwrap(one), inspect.unwrap(other))
        parts = _parts(one)
        if parts is not None:
            return self._all(parts, _parts(other) or ())
        try:
            if bool(one == other):
                return True
        except Exception:  # the user's __eq__
            return False
        # an object of a module or cell that was run again is a new one, where plain values stay the same
        return not self._strictly and type(one).__eq__ is object.__eq__  # type: ignore[comparison-overlap]

    def _functions(self, one: Any, other: Any) -> bool:
        if not (isinstance(one, FunctionType) and isinstance(other, FunctionType)):
            return self.alike(one, other)
        if (one.__module__, one.__qualname__) != (other.__module__, other.__qualname__):
            return False
        if one.__code__ is other.__code__:
            return self._all(_held(one), _held(other))
        return not self._strictly and _wrapped(one) == _wrapped(other)

    def _all(self, ones: Sequence[Any], others: Sequence[Any]) -> bool:
        return len(ones) == len(others) and all(map(self.alike, ones, others))


_UNSET = CellType()
"""A variable of a closure that has no value yet, as a function's own name while it is decorated."""


def _held(function: FunctionType) -> tuple[Any, ...]:
    """What one closure of a function has that another may have differently."""
    cells = [_UNSET if cell == _UNSET else cell.cell_contents for cell in function.__closure__ or ()]
    return (*cells, function.__defaults__, tuple((function.__kwdefaults__ or {}).items()))


def _wrapped(function: FunctionType) -> list[str]:
    """The names of the functions that a decorator's inner function has."""
    return [value.__qualname__ for value in _held(function) if isinstance(value, FunctionType)]


def _parts(value: Any) -> Sequence[Any] | None:
    if isinstance(value, functools.partial):
        return (value.func, value.args, tuple(sorted(value.keywords.items())))
    if inspect.ismethod(value):
        return (value.__func__, value.__self__)
    if isinstance(value, BaseTask):
        return (value.app, value.name)  # its function was compared when it was registered
    return value if type(value) in (tuple, list) else None
