"""A check that arguments fit a function, as fast as a call.

``inspect.Signature.bind`` costs several microseconds, too much for every ``.delay()``. Instead an empty function
with the same parameter list is compiled once; calling it raises Python's own ``TypeError``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

_PREFIX: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def signature_check(function: Callable[..., Any], *, skip_first: bool) -> Callable[..., None]:
    """An empty function that takes what *function* takes (less its first parameter, for bound tasks)."""
    parameters = list(inspect.signature(function).parameters.values())[1 if skip_first else 0 :]
    parts: list[str] = []
    star = False
    for index, parameter in enumerate(parameters):
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        star = star or parameter.kind is inspect.Parameter.VAR_POSITIONAL
        default = "=None" if parameter.default is not parameter.empty else ""
        parts.append(_PREFIX.get(parameter.kind, "") + parameter.name + default)
        following = parameters[index + 1].kind if index + 1 < len(parameters) else None
        if parameter.kind is parameter.POSITIONAL_ONLY and following is not parameter.POSITIONAL_ONLY:
            parts.append("/")
    name = getattr(function, "__name__", "task")
    name = name if name.isidentifier() else "task"
    namespace: dict[str, Any] = {}
    # only parameter names, which are identifiers by Python's own grammar, enter the source
    exec(f"def {name}({', '.join(parts)}): pass", namespace)  # noqa: S102
    check: Callable[..., None] = namespace[name]
    return check
