"""The names of tasks: the same for whoever imports or runs the module that defines them, in whatever way."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taskq.errors import ConfigError
from taskq.values.functions import body

_MAIN = ("__main__", "__mp_main__")
"""What Python calls the module that it runs, and multiprocessing the same module in its children."""


def default_name(function: Callable[..., Any]) -> str:
    """The name of a task that was given none: ``module.function``.

    Raises:
        ConfigError: *function* is a ``functools.partial`` or an object, which have no name.
    """
    own = getattr(function, "__qualname__", None)
    if not isinstance(own, str):
        kind = type(function).__name__
        raise ConfigError(f"a {kind} has no name that a message could call it by: write @app.task(name='...')")
    return f"{module_of(function)}.{own}"


def module_of(function: Callable[..., Any]) -> str:
    """The dotted name by which a worker imports the module of *function*, also where that is the one being run."""
    module = getattr(function, "__module__", None) or "__main__"
    if module not in _MAIN:
        return module
    inner = inspect.unwrap(body(function))
    known: dict[str, Any] = getattr(inner, "__globals__", None) or vars(sys.modules["__main__"])
    spec = known.get("__spec__")
    if spec is not None and spec.name not in _MAIN:
        return str(spec.name)  # python -m package.module
    path = known.get("__file__")
    return _importable(Path(path), child=module == _MAIN[1]) if path else "__main__"


def only_here(name: str) -> bool:
    """Whether *name* is that of a task which no other process can import: of a notebook, or of ``python -c``."""
    return name.partition(".")[0] in _MAIN


def _importable(script: Path, *, child: bool) -> str:
    """The name under which the file of ``python path/to/script.py`` is imported."""
    script = script.resolve()
    root = script.parent
    while (root / "__init__.py").exists() and root != root.parent:
        root = root.parent
    if root == script.parent:
        root = _folder_of_imports(script, child=child)
    parts = script.relative_to(root).with_suffix("").parts
    return ".".join(parts) if all(part.isidentifier() for part in parts) else script.stem


def _folder_of_imports(script: Path, *, child: bool) -> Path:
    """Where imports of a script begin that is in no package.

    Its own folder, when it has imported others from there; else a folder of ``PYTHONPATH``; and for
    ``python folder/script.py`` the current directory, which ``taskq worker`` searches first. A child of multiprocessing
    does not know how its parent was started, and takes it for that.
    """
    if _imports_from(script.parent):
        return script.parent
    folders = {Path(entry).resolve() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry}
    typed = Path(sys.argv[0] if sys.argv else "")
    if child or (not typed.is_absolute() and typed.resolve() == script):
        folders.add(Path.cwd())
    above = [folder for folder in folders - {script.parent} if folder in script.parents]
    return max(above, key=lambda folder: len(os.fspath(folder)), default=script.parent)


def _imports_from(folder: Path) -> bool:
    """Whether modules of *folder* were imported by their bare names."""
    files = [
        getattr(module, "__file__", None)
        for name, module in list(sys.modules.items())
        if "." not in name and name not in _MAIN
    ]
    return any(file and Path(file).parent == folder for file in files)
