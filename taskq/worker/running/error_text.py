"""What an exception says, for evidence: its type, its text, its traceback.

All three may run code of the user's that fails in its turn, and may hold anything. Nothing here raises, all that comes
back is text that has a wire form, and its length is bounded.
"""

from __future__ import annotations

import traceback as tracebacks
from types import TracebackType

from taskq.errors import Retry, TaskControl

MAX_NAME = 200
"""Longest name of a type kept, in characters."""
MAX_TEXT = 20_000
"""Longest text and traceback kept, in characters; of a traceback the end, where the error is."""
MOST_ERRORS = 100
"""Exceptions that led to one another or stand in a group, of which the whole traceback is made."""
DEEPEST = 3_000
"""Frames of an exception of which the whole traceback is made: three times Python's own limit of recursion."""
MOST_FRAMES = 100
"""Frames shown of an exception whose whole traceback cannot be made: the last ones."""

_name_of_type = type.__dict__["__qualname__"].__get__
_traceback_of = BaseException.__dict__["__traceback__"].__get__


def type_of(error: BaseException) -> str:
    """The qualified name of its class, printable."""
    name: str = _name_of_type(type(error))  # a metaclass may have a property of that name
    shown = name if name.isprintable() else ascii(name)[1:-1]
    return shown[:MAX_NAME]


def text_of(error: BaseException) -> str:
    """What ``str()`` says of it."""
    try:
        return _encodable(str(error), slice(MAX_TEXT))
    except BaseException as failure:
        return f"(its text cannot be shown: {type_of(failure)})"


def traceback_of(error: BaseException) -> str:
    """Its traceback with those of the errors that led to it; empty for a Retry or Reject that none led to."""
    try:
        if isinstance(error, TaskControl) and _led_to(error) is None:
            return ""
        if unwieldy(error):
            return _brief(error, "too many errors led to this one, are in its group, or it came from too deep")
        return _encodable("".join(tracebacks.format_exception(error)), slice(-MAX_TEXT, None))
    except BaseException as failure:  # a cause, note or source loader of the user's that fails in turn
        return _brief(error, f"its traceback cannot be shown: {type_of(failure)}")


def cause_of(error: BaseException) -> BaseException:
    """What went wrong: of a Retry the error that it was given, or that was being handled when it was raised."""
    for _ in range(MOST_ERRORS):
        if not isinstance(error, Retry):
            break
        led = error.reason if isinstance(error.reason, BaseException) else _led_to(error)
        if led is None:
            break
        error = led
    return error


def unwieldy(error: BaseException) -> bool:
    """Whether so many exceptions or frames hang together with it that showing all of them would take for ever."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if len(seen) > MOST_ERRORS or _is_deep(one):
            return True
        waiting += [led for led in (one.__cause__, one.__context__) if led is not None]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions[: MOST_ERRORS + 1]
    return False


def _is_deep(error: BaseException) -> bool:
    at: TracebackType | None = _traceback_of(error)
    for _ in range(DEEPEST):
        if at is None:
            return False
        at = at.tb_next
    return True


def _led_to(error: BaseException) -> BaseException | None:
    if error.__cause__ is not None or error.__suppress_context__:
        return error.__cause__
    return error.__context__


def _brief(error: BaseException, why: str) -> str:
    """The frames and the text of *error* alone, without lines of source: nothing of the user's runs for it."""
    frames: list[str] = []
    at: TracebackType | None = _traceback_of(error)
    while at is not None:
        code = at.tb_frame.f_code
        frames.append(f'  File "{code.co_filename}", line {at.tb_lineno}, in {code.co_name}\n')
        del frames[:-MOST_FRAMES]
        at = at.tb_next
    text = f"({why})\nTraceback (most recent call last):\n{''.join(frames)}{type_of(error)}: {text_of(error)}\n"
    return _encodable(text, slice(-MAX_TEXT, None))


def _encodable(text: str, part: slice) -> str:
    """*part* of *text* without lone surrogates, as in the name of a file that is not UTF-8: they have no wire form."""
    # by the methods of str: what __str__ returns may be of a class with its own
    return str.encode(str.__getitem__(text, part), "utf-8", "backslashreplace").decode()
