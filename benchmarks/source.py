"""Which taskq was measured: its version number stays the same while its code changes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import taskq


def digest() -> str:
    """A short hash over taskq's source files."""
    root = Path(taskq.__file__).parent
    found = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.suffix in (".py", ".lua")):
        found.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:10]


def during(before: str) -> str:
    """The hash for the record; says so when the code changed since *before*, as then the figures belong to no code."""
    after = digest()
    return before if after == before else f"{before} CHANGED to {after} while it was measured"
