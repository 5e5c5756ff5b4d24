"""What a command does when it is told to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


def stop_on_signal(told: Callable[[], object] | None = None) -> threading.Event:
    """An event that the first SIGTERM or SIGINT sets; a second one ends the process at once.

    To be called from the main thread.

    Args:
        told: called at the first one too, inside the signal handler.
    """
    stop = threading.Event()

    def handle(number: int, _: FrameType | None) -> None:
        stop.set()
        if told is not None:
            told()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    return stop


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let the block come to its end before Ctrl-C raises ``KeyboardInterrupt``; a second one raises it at once.

    To be used in the main thread.
    """
    heard = False
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal heard
        heard = True
        signal.signal(number, before)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        raise KeyboardInterrupt
