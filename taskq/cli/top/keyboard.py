"""Single keys from a terminal."""

from __future__ import annotations

import contextlib
import os
import select
import termios
import tty
from collections.abc import Iterator

_NAMES = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"\x1b[H": "home",
    b"\x1b[F": "end",
    b"\t": "tab",
}


@contextlib.contextmanager
def single_keys(fd: int) -> Iterator[None]:
    """Have the terminal hand over keys one by one, without echo; as it was afterwards. Ctrl-C stays a signal."""
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def keys(fd: int, timeout: float) -> list[str]:
    """The keys pressed within *timeout* seconds, as soon as there is one; ``q`` when the terminal is gone."""
    if not select.select([fd], [], [], timeout)[0]:
        return []
    data = os.read(fd, 256)
    if not data:
        return ["q"]
    found = []
    while data:
        known = next((seq for seq in _NAMES if data.startswith(seq)), None)
        if known is not None:
            found.append(_NAMES[known])
            data = data[len(known) :]
        elif data.startswith(b"\x1b"):
            break  # a key that means nothing here, whole
        else:
            found.append(chr(data[0]))
            data = data[1:]
    return found
