"""The first process of a container: it passes signals on and reaps orphans, as ``docker run --init`` has it done.

Kubernetes has no such option. Without it the programs that tasks leave behind would stay as zombies for ever, and a
signal that comes before a handler is set would be ignored.
"""

from __future__ import annotations

import os
import signal

_PASSED_ON = frozenset(
    {
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGWINCH,
    }
)


def stand_apart() -> None:
    """Go on in a child, if this is process 1, which then ends with the child and its exit code; else do nothing.

    To be called before anything starts a thread.
    """
    if os.getpid() != 1:
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON | {signal.SIGCHLD})
    child = os.fork()
    if not child:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    while (code := _reap(child)) is None:
        told = signal.sigwaitinfo(_PASSED_ON | {signal.SIGCHLD})
        # Ctrl-C comes from the kernel, which has told the child as well
        if told.si_signo != signal.SIGCHLD and told.si_code <= 0:
            os.kill(child, told.si_signo)
    os._exit(code)


def _reap(child: int) -> int | None:
    """Reap what has ended; the exit code, if *child* was among it."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if not pid:
            return None
