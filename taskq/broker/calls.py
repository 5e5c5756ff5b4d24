"""A call of a Lua script as a value: its text, its keys, its arguments. The drivers run it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Arg = bytes | str | int | float

LUA = Path(__file__).parent / "lua"
"""Where the scripts are."""
_INCLUDE = re.compile(r"^ *-- include ([\w/]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua file, addressed by its content, so that two releases can run side by side."""

    name: str
    text: str
    sha: str


@dataclass(slots=True)
class Call:
    """One script with its keys and arguments, ready to be sent."""

    script: Script
    keys: Sequence[bytes]
    args: Sequence[Arg]

    def command(self, verb: str = "EVALSHA") -> tuple[Arg, ...]:
        """The Redis command; ``EVAL`` carries the text and so loads it too."""
        body = self.script.sha if verb == "EVALSHA" else self.script.text
        return (verb, body, len(self.keys), *self.keys, *self.args)


def load(name: str) -> Script:
    """The script in ``lua/<name>.lua``, with its includes.

    A line ``-- include <part>`` stands for ``lua/include/<part>.lua``, once, however many parts ask for it.
    """
    text = _resolved((LUA / f"{name}.lua").read_text("utf-8"), set())
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _resolved(text: str, included: set[str]) -> str:
    def part(line: re.Match[str]) -> str:
        if line[1] in included:
            return ""
        included.add(line[1])
        return _resolved((LUA / "include" / f"{line[1]}.lua").read_text("utf-8"), included)

    return _INCLUDE.sub(part, text)
