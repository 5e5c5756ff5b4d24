"""Keeps a process that a task forks from acting as its worker.

``os.fork()`` copies a worker with its deliveries, its connection to the parent and its exit hooks. When the task
returns in the copy, that must not settle, run what else waits, or clean up: it ends at once. Nor may a signal to the
copy come to the worker, whose event loop shares its wake-up socket with it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""Signals by which processes are asked to stop."""

strayed = False
"""Whether this process was forked from one that runs tasks. Looked at after each task."""
_claimed = False
_mask = threading.local()


def claim() -> None:
    """This process runs tasks from now on; what forks from it does not."""
    global strayed, _claimed
    strayed, _claimed = False, True


def leave(error: BaseException | None) -> None:
    """End this process, in which a task has returned or raised *error*; nothing of the worker's is touched."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        traceback.print_exception(error)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


def _before() -> None:
    if _claimed:  # a signal that came before the copy has its own handlers would be swallowed, or end the worker
        _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)


def _in_parent() -> None:
    if _claimed:
        signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


def _in_child() -> None:
    global strayed
    if not _claimed:
        return
    strayed = True
    signal.set_wakeup_fd(-1)
    for number in STOPPING:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
