"""Files and directories that hold messages: nobody else may read them, or put something else in their place."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from taskq.errors import ConfigError

_OWN = f".taskq-{os.geteuid()}"
"""The directory of this user in one that everybody can write to."""


def check_file(path: Path, what: str) -> None:
    """Make *path* a file of ours alone: made if it is missing, and closed to others if it was open to them.

    Args:
        path: absolute.
        what: names it in an error.

    Raises:
        ConfigError: it is a link, not a file, or of another user, or others can replace it.
        OSError: it cannot be made.
    """
    check_way(path, what)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    except FileExistsError:
        close_to_others(path, what)


def place_of(path: Path, what: str) -> Path:
    """Where the file *path* goes: from a directory that everybody can write to, into one of our own inside it.

    A volume of Kubernetes (``emptyDir``) is such a directory. A file that is there already does not move.

    Args:
        path: absolute.
        what: names it in an error.

    Raises:
        ConfigError: our own directory is a link, not a directory, or of another user.
        OSError: it cannot be made.
    """
    if not _is_open(path.parent) or os.path.lexists(path):
        return path
    own = path.parent / _OWN
    make_directory(own, what)
    return own / path.name


def close_to_others(path: Path, what: str) -> None:
    """As :func:`check_file`, of what may be missing. Never opens it: to close a file of SQLite loses its locks."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise ConfigError(f"{what}: {path} is a link; name the file itself")
    if found.st_uid != os.geteuid():
        raise ConfigError(f"{what}: {path} belongs to another user; choose a path of your own")
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{what}: {path} is not an ordinary file")
    if found.st_mode & 0o077:
        path.chmod(stat.S_IMODE(found.st_mode) & 0o700)


def make_directory(path: Path, what: str) -> None:
    """Make the directory *path*, with those above it, for us alone; one that is there must be ours.

    Raises:
        ConfigError: it is a link, not a directory, or of another user, or others can write to it.
        OSError: it cannot be made.
    """
    check_way(path, what)
    for missing in reversed([path, *path.parents]):
        if not os.path.lexists(missing):
            missing.mkdir(0o700)
    _check_directory(path, what)
    if path.stat().st_mode & stat.S_IWOTH:
        raise ConfigError(f"{what}: everybody can write to {path}; write: chmod o-w {path}")


def _check_directory(path: Path, what: str) -> None:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise ConfigError(f"{what}: {path} is a link; name the directory itself")
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{what}: cannot use {path}: it is not a directory")
    if found.st_uid != os.geteuid():
        raise ConfigError(f"{what}: {path} belongs to another user; choose one of your own")


def check_way(path: Path, what: str) -> None:
    """Whether others could put something else in the place of *path*.

    Raises:
        ConfigError: everybody can write to a directory above it that is not sticky, as /tmp is.
    """
    way = list(Path(os.path.realpath(path.parent)).joinpath("x").parents)
    if path.name == _OWN:
        way = way[1:]  # the open directory in which it is
    elif path.parent.name == _OWN:
        make_directory(path.parent, what)
        way = way[2:]
    for directory in way:
        if _is_open(directory):
            raise ConfigError(
                f"{what}: everybody can replace {path}, since {directory} is open; write: chmod o-w {directory}"
            )


def _is_open(directory: Path) -> bool:
    """Whether everybody can exchange what is in *directory*; not so where it is sticky, as /tmp is."""
    try:
        mode = directory.stat().st_mode
    except OSError:  # not there yet, or not ours to look at
        return False
    return bool(mode & stat.S_IWOTH and not mode & stat.S_ISVTX)
