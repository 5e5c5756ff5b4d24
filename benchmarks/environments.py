"""Where a rival is installed: a virtual environment (or a folder of node modules) of its own, made once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path


def default_directory() -> Path:
    """The user's cache directory, or the system's for temporary files."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(base) / "taskq-benchmarks"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        directory = Path(tempfile.gettempdir()) / "taskq-benchmarks"
    return directory


def python_environment(directory: Path, requirements: Sequence[str]) -> Path:
    """The interpreter of a virtual environment with *requirements*; made when they are new."""
    interpreter = directory / "bin" / "python"
    if not _current(directory, requirements):
        shutil.rmtree(directory, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
        subprocess.run([str(interpreter), "-m", "pip", "install", "--quiet", *requirements], check=True)
        _mark(directory, requirements)
    return interpreter


def node_environment(directory: Path, packages: Sequence[str]) -> Path:
    """The ``node_modules`` with *packages*; made when they are new."""
    if not _current(directory, packages):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        (directory / "package.json").write_text('{"private": true}')
        subprocess.run(["npm", "install", "--silent", *packages], cwd=directory, check=True)
        _mark(directory, packages)
    return directory / "node_modules"


def python_versions(interpreter: Path) -> dict[str, str]:
    """Every installed package and its version."""
    code = (
        "import importlib.metadata as m, json;"
        "print(json.dumps({d.metadata['Name']: d.version for d in m.distributions()}))"
    )
    found: dict[str, str] = json.loads(subprocess.check_output([str(interpreter), "-c", code], text=True))
    return {name: found[name] for name in sorted(found) if name not in ("pip", "setuptools")}


def node_versions(modules: Path, packages: Sequence[str]) -> dict[str, str]:
    """The versions of *packages*, and of node."""
    found = {name: json.loads((modules / name / "package.json").read_text())["version"] for name in packages}
    found["node"] = subprocess.check_output(["node", "--version"], text=True).strip()
    return found


def _fingerprint(requirements: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps([sys.version, *requirements]).encode()).hexdigest()


def _current(directory: Path, requirements: Sequence[str]) -> bool:
    mark = directory / "made-for"
    return mark.exists() and mark.read_text() == _fingerprint(requirements)


def _mark(directory: Path, requirements: Sequence[str]) -> None:
    (directory / "made-for").write_text(_fingerprint(requirements))
