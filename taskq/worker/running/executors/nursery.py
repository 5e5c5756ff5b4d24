"""What the fork server of child processes imports before it forks: taskq, and nothing of the app.

A child that began as a copy of an imported app would share with its siblings what the app made at import: connections,
random states, locks that a thread held which the copy does not have. So each child imports the app itself.
"""

from __future__ import annotations

import signal
import sys

from taskq.worker.running.executors import child  # noqa: F401 - shared by all children
from taskq.worker.running.forked import STOPPING


def _stay(number: int, frame: object) -> None:
    """A signal to the whole process group is for the worker: without the fork server its children would seem dead."""


if any("multiprocessing.forkserver" in argument for argument in sys.orig_argv):
    for number in STOPPING:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _stay)  # a handler: unlike "ignore" it is not inherited by programs
