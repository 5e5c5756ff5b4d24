"""What the dashboard and the command line do not show: a :class:`~taskq.Secret`, and values with telling names.

Names decide for arguments, keys of mappings inside of them, headers, and ``name=value`` in error texts. The
messages themselves stay as they are in Redis.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taskq.values.secret import MASK, Secret

if TYPE_CHECKING:
    from taskq.client.task import BaseTask
    from taskq.values.message import Message

HIDDEN = "[redacted]"

_PARTS = r"password|passwd|passphrase|secret|authorization|credential|api_?key|private_?key|access_?key|signing_?key"
"""Secret wherever they stand in a name."""
_WORDS = r"pass|pwd|token|jwt|auth|cookie|session(?:_?id)?|card_?number|cvv|cvc|ssn|pin"
"""Secret as words of a name: ``auth_token``, but not ``max_tokens`` and ``author``."""
_NAME = re.compile(rf"{_PARTS}|(?:^|_)(?:{_WORDS})(?:$|_|\d)")
_ASSIGNED = re.compile(
    r"""(?<![\w\-])(?P<name>[\w\-]{1,80})['"]?\s{0,3}[:=]\s{0,3}(?:(?:bearer|basic)\s+)?""", re.IGNORECASE
)
_VALUE = re.compile(r"""'[^'\n]*'|"[^"\n]*"|[^\s,;&)}\]'"]+""")
_IN_URL = re.compile(r"(?P<before>\b[a-z][a-z0-9+.\-]{0,20}://[^\s:/@]{0,200}:)[^\s@/]{1,500}(?=@)", re.IGNORECASE)
_DEPTH = 20


def is_secret(name: object) -> bool:
    """Whether a value of that name is hidden: ``password``, ``db_password``, ``apiKey``, ``X-Auth-Token``."""
    return isinstance(name, str) and _NAME.search(_snake(name)) is not None


def redact(value: Any, *, depth: int = _DEPTH) -> Any:
    """A copy of *value* in which the values of secret names are :data:`HIDDEN`, and secrets their mask."""
    if isinstance(value, Secret):
        return MASK
    if depth == 0:
        return "[too deep to show]"
    if isinstance(value, Mapping):
        return {key: _named(key, item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item, depth=depth - 1) for item in value]
    return redact_text(value) if isinstance(value, str) else value


def redact_args(args: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """Positional arguments, hidden by the *names* of their parameters where these are known."""
    known = [*names[: len(args)], *[""] * (len(args) - len(names))]
    return [_named(name, value, _DEPTH) for value, name in zip(args, known, strict=True)]


def parameters(task: BaseTask[..., Any] | None) -> Sequence[str]:
    """The names of a task's positional parameters; none where its code is not known."""
    if task is None:
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [one.name for one in inspect.signature(task.function).parameters.values() if one.kind in kinds]
    return names[1:] if getattr(task, "bind", False) else names


@dataclass(frozen=True, slots=True)
class Call:
    """A task and its arguments, redacted."""

    task: str
    args: list[Any]
    kwargs: dict[str, Any]

    def line(self, length: int) -> str:
        """The arguments on one line, cut at *length* characters."""
        parts = [_written(value) for value in self.args]
        line = ", ".join(parts + [f"{name}={_written(value)}" for name, value in self.kwargs.items()])
        return line if len(line) <= length else f"{line[: length - 1]}…"


def redacted_call(message: Message, task: BaseTask[..., Any] | None) -> Call:
    """The call in *message*; *task* is its task where the code is known."""
    return Call(message.task, redact_args(message.args, parameters(task)), redact(message.kwargs))


def redact_text(text: str) -> str:
    """*text* without what follows ``password=``, ``"token": `` and the like, and without passwords in URLs."""
    text = _IN_URL.sub(lambda match: match["before"] + HIDDEN, text)
    parts, shown, position = [], 0, 0
    while (found := _ASSIGNED.search(text, position)) is not None:
        position = found.end()
        value = _VALUE.match(text, position) if is_secret(found["name"]) else None
        if value is not None:
            parts += [text[shown : found.end()], HIDDEN]
            shown = position = value.end()
    return "".join([*parts, text[shown:]])


def restore(edited: Any, original: Any, where: str = "the arguments") -> Any:
    """*edited*, with what was hidden and left as it was shown put back from *original*.

    What is written over a secret becomes one.

    Raises:
        ValueError: it has :data:`HIDDEN` or a mask where nothing was hidden.
    """
    if isinstance(original, Secret):
        return original if edited in (MASK, HIDDEN) else Secret(edited)
    if edited == HIDDEN and original is not None:
        return original
    if edited == MASK != original:
        raise ValueError(f"{where} is {MASK} where no secret was; write the value itself")
    if isinstance(edited, str):
        if isinstance(original, str) and edited == redact_text(original):
            return original
        if HIDDEN in edited:
            raise ValueError(f"{where} has {HIDDEN} in it; write the value itself")
    if isinstance(edited, dict):
        known = original if isinstance(original, dict) else {}
        return {key: restore(item, known.get(key), f"{where}.{key}") for key, item in edited.items()}
    if isinstance(edited, list):
        items = list(original) if isinstance(original, list | tuple) else []
        items += [None] * (len(edited) - len(items))
        return [restore(item, items[n], f"{where}[{n}]") for n, item in enumerate(edited)]
    return edited


def _named(name: object, value: Any, depth: int) -> Any:
    hidden = is_secret(name) and value is not None and not isinstance(value, Secret)
    return HIDDEN if hidden else redact(value, depth=depth)


def _written(value: object) -> str:
    return value if value in (MASK, HIDDEN) and isinstance(value, str) else repr(value)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[\W]+", "_", name).lower()
