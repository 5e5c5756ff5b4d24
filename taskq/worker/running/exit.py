"""How the processes of a worker end: with the exit hooks of the app, and without waiting for threads."""

from __future__ import annotations

import atexit
import os
import sys
import threading

from taskq.errors import ExitCode

HOOKS_WITHIN = 5.0
"""Seconds that all functions given to ``atexit`` may take."""


def exit_with(code: ExitCode) -> None:
    """Run the exit hooks, and end the process, whatever threads still run: their messages were handed back."""
    limit = threading.Timer(HOOKS_WITHIN, os._exit, (code,))
    limit.daemon = True
    limit.start()
    try:
        atexit._run_exitfuncs()  # logging's own is among them
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        os._exit(code)
