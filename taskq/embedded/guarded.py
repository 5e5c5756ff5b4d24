"""A process that ends with its owner, also when the owner is killed by SIGKILL.

It is started through a shell that first forks a small guard. The guard waits on a pipe whose other end only the owner
holds, and which therefore ends with the owner. (PR_SET_PDEATHSIG would follow the *thread* that started the process.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

STOP_SECONDS = 10.0
"""Seconds in which a process must follow a signal, before it is killed."""

# Standard output arrives as the guard's pipe, because standard input carries the server's configuration.
# A line on the pipe dismisses the guard; end of file means that the owner is gone.
# The guard is a member of process group $$, so the kernel cannot give the number $$ to another process.
_GUARD = """
umask 077  # what it writes is for nobody else
scratch=$1; shift
{
  if ! read -r dismissed <&1; then
    kill -TERM $$
    tries=0
    while [ $tries -lt 50 ] && kill -0 $$; do sleep 0.1; tries=$((tries + 1)); done
    kill -KILL $$
    rm -rf -- "$scratch"
  fi
} </dev/null 2>/dev/null &
exec "$@" >&2
"""


class GuardedProcess:
    """Starts a process under its guard.

    Args:
        command: the program and its arguments.
        scratch: a directory that the guard removes when the owner is gone.
        log: the file for its output; one that is there is overwritten.
        inherited: a descriptor that stays open as long as the process is there.
    """

    def __init__(self, command: Sequence[str], scratch: Path, log: Path, inherited: int) -> None:
        guard, self._guard = os.pipe()
        try:
            with log.open("wb") as output:
                self._process = subprocess.Popen(  # noqa: S603 - no shell text is made from arguments
                    ["/bin/sh", "-c", _GUARD, "taskq-redis", str(scratch), *command],
                    stdin=subprocess.PIPE,
                    stdout=guard,
                    stderr=output,
                    pass_fds=(inherited,),
                    # Ctrl-C at the terminal is for the server's clients; they still need it to finish.
                    start_new_session=True,
                )
        except BaseException:
            os.close(self._guard)
            raise
        finally:
            os.close(guard)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def feed(self, text: bytes) -> None:
        """Give it its whole standard input."""
        assert self._process.stdin is not None
        # One that ended before it read this is reported by who waits for it, with its log.
        with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:
            stdin.write(text)

    def end(self, how: signal.Signals) -> None:
        """Send a signal, reap the process (by force, if it does not follow in time) and dismiss its guard."""
        try:
            self._reap(how)
        finally:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._guard, b"dismissed\n")
            os.close(self._guard)

    def disown(self) -> None:
        """In a forked child: let go of what belongs to the parent."""
        os.close(self._guard)
        self._process.returncode = 0  # not ours to wait for

    def _reap(self, how: signal.Signals) -> None:
        try:
            self._process.send_signal(how)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
