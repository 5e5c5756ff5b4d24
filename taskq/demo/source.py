"""Python files: finding them, and counting what is in them."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_NOT_ENTERED = {"__pycache__", "site-packages", "dist-packages", "node_modules"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_IMPORTS = (ast.Import, ast.ImportFrom)
_BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")
"""The fields of a node that hold statements."""


class Counts(NamedTuple):
    """What one file, or several, came to."""

    lines: int
    functions: int
    classes: int
    imports: int


def python_files(folder: Path) -> list[Path]:
    """Every ``*.py`` below *folder*, sorted, but for those in hidden directories and installed packages."""
    found: list[Path] = []
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NOT_ENTERED and not name.startswith(".")]
        found += [Path(here, name) for name in names if name.endswith(".py")]
    return sorted(file for file in found if file.is_file())


def package_of(file: Path, folder: Path) -> str:
    """The directory directly below *folder* that *file* is in; ``.`` for none."""
    parts = file.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else "."


def count(source: bytes) -> Counts:
    """Parse *source* and count.

    Raises:
        SyntaxError: it does not parse.
        ValueError: it holds null bytes (older Pythons).
    """
    functions = classes = imports = 0
    for node in _statements(ast.parse(source)):
        functions += isinstance(node, _FUNCTIONS)
        classes += isinstance(node, ast.ClassDef)
        imports += isinstance(node, _IMPORTS)
    return Counts(len(source.splitlines()), functions, classes, imports)


def _statements(root: ast.AST) -> Iterator[ast.AST]:
    """Every statement below *root*. Expressions are not entered: they are most of a tree, and hold none."""
    todo = [root]
    while todo:
        node = todo.pop()
        for block in _BLOCKS:
            inside: list[ast.AST] = getattr(node, block, [])
            todo += inside
            yield from inside
