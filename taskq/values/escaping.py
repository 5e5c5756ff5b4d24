"""Text that came from anywhere, made safe to show: no terminal obeys it, and no line of it passes for another.

Task names, ids and errors come from Redis, so from whoever can write there. Control characters would move the
cursor or set colours, a newline would forge a line of the log, and direction marks would reorder what is read.
"""

from __future__ import annotations

import json
import re

_INDENT = "    "
_JSON_SAFE = re.compile(r"[^\x20-\x7e\n]")
"""What to look at in JSON: everything but plain ASCII."""


def escaped(text: str, *, keep: str = "\t") -> str:
    r"""*text* with each character that is not printable as Python writes it: ``\x1b``, ``\n``, ``\u202e``.

    Args:
        text: anything.
        keep: characters that stay as they are; ``"\n\t"`` for text of several lines.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _escape(char) for char in text)


def indented(text: str) -> str:
    """*text* of several lines, escaped, each line indented: none of them can look like the start of a log line."""
    # split at newlines only: what else ends a line for some readers is escaped
    return "\n".join(_INDENT + escaped(line) for line in text.split("\n"))


def escaped_json(document: str) -> str:
    r"""A JSON *document* with its unprintable characters as ``\uXXXX``: the same value, safe to show."""
    # newlines of an indented document stand between its tokens; those of strings are escaped already
    return _JSON_SAFE.sub(lambda found: found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1], document)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
