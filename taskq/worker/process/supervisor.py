"""The parent of several worker processes: starts them, starts them again, and passes on signals.

Children are fresh interpreters (``spawn``), not forks of a process that has already imported the app: no threads,
sockets or locks are inherited half way.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from taskq.errors import ConfigError, ExitCode

logger = logging.getLogger("taskq.supervisor")

RESTART_PAUSES = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before a worker is started again, by how many have ended soon after their start, in a row."""
WORKED_PAUSES = (0.0, 0.0, 0.2, 0.5, 1.0)
"""The same for workers that had read their queues: a message killed them, and each message does that a few times
only (``max_crashes``)."""
SETTLED_AFTER = 10.0
"""Seconds after which a worker counts as well started."""
GIVE_UP_AFTER = 10
"""Quick ends in a row, of workers that never read their queues, after which the supervisor ends too: something is
wrong that restarts do not fix."""

READY_WITHIN = 30.0
"""Seconds without a successful read of the queues after which a worker is not ready."""

DRAIN, HAND_BACK = b"drain", b"hand back"
"""What a supervisor says to its workers. Not by a signal: one to the whole process group has reached them already, and
must not count twice."""
SAME_ORDER = 0.05
"""Seconds in which a second signal is the same order: ``timeout`` sends one to the process and one to its group."""

Target = Callable[..., Any]


class Repeated:
    """Knows a second order to stop from the echo of the first."""

    def __init__(self) -> None:
        self._first = float("inf")

    def note(self) -> bool:
        """An order came now; whether it is one more."""
        now = time.monotonic()
        self._first = min(self._first, now)
        return now - self._first >= SAME_ORDER


class _Member:
    """One worker process and its history."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.process: SpawnProcess | None = None
        self.started_at = 0.0
        self.start_after = 0.0
        self.quick_ends = 0
        self.failed_starts = 0
        self.family = ""
        self.read_before = 0.0
        self.orders: Connection | None = None


class Supervisor:
    """Runs *count* processes of *target* until told to stop.

    Args:
        target: what each process runs: a function of a module, called as
            ``target(index, orders, slate, family, *args)`` with a pipe from the supervisor, shared numbers
            (``slate[index]`` is for ``time.monotonic()`` of its last read of a queue), and the family of its names.
        args: passed on; must be picklable.
        count: how many processes.
        ended: called with the pid and the family of a process that has ended.
    """

    def __init__(
        self, target: Target, args: tuple[Any, ...], count: int, ended: Callable[[int, str], None] | None = None
    ) -> None:
        self._ended = ended
        self._target = target
        self._args = args
        self._members = [_Member(index) for index in range(count)]
        self._context = multiprocessing.get_context("spawn")
        try:
            self._slate = self._context.RawArray("d", count)
        except OSError as error:
            raise ConfigError(
                f"several workers need shared memory: let /dev/shm or TMPDIR be written to, or run one ({error})"
            ) from error
        self._order = b""
        self._repeated = Repeated()
        self._woken = threading.Event()

    def run(self) -> ExitCode:
        """Supervise until a signal, or until every process has ended by itself (burst)."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            if number in (signal.SIGTERM, signal.SIGINT) or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        try:
            while True:
                alive = [member for member in self._members if self._look_after(member)]
                if not alive:
                    return self._verdict()
                self._woken.wait(self._next_look())
                self._woken.clear()
        finally:
            self._kill_all()

    def is_ready(self) -> bool:
        """Whether every process has read its queues lately."""
        oldest = min(self._slate)
        return bool(oldest > 0 and time.monotonic() - oldest < READY_WITHIN)

    def _on_signal(self, number: int, frame: object) -> None:
        again = number in (signal.SIGTERM, signal.SIGINT) and self._repeated.note()
        if again or number == signal.SIGQUIT:
            self._order = HAND_BACK
        elif not self._order:
            self._order = DRAIN
        for member in self._members:
            self._pass_on(member)
        self._woken.set()

    def _pass_on(self, member: _Member) -> None:
        process = member.process
        if process is None or not process.pid or not process.is_alive() or member.orders is None:
            return
        with contextlib.suppress(OSError):  # it has ended
            member.orders.send_bytes(self._order)
        if self._slate[member.index] == member.read_before:  # it holds nothing yet, and may import for long
            os.kill(process.pid, signal.SIGTERM)

    def _look_after(self, member: _Member) -> bool:
        """Keep one process going; False when it has ended for good."""
        process = member.process
        if process is not None and process.is_alive():
            return True
        if process is not None and member.started_at:
            self._note_end(member, process)
        if self._order or member.failed_starts >= GIVE_UP_AFTER or member.start_after == float("inf"):
            return False
        if time.monotonic() >= member.start_after:
            self._start(member)
        return True

    def _start(self, member: _Member) -> None:
        member.family = os.urandom(4).hex()
        member.read_before = self._slate[member.index]
        theirs, member.orders = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=self._target,
            args=(member.index, theirs, self._slate, member.family, *self._args),
            name=f"taskq-worker-{member.index}",
        )
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:  # it inherits that: Ctrl-C reaches the whole group, and must not end it while it imports
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            theirs.close()
        member.process, member.started_at = process, time.monotonic()
        if self._order:  # it came while the process was being started, and passed it by
            self._pass_on(member)
        threading.Thread(target=self._watch, args=(process,), daemon=True).start()

    def _watch(self, process: SpawnProcess) -> None:
        process.join()
        self._woken.set()

    def _note_end(self, member: _Member, process: SpawnProcess) -> None:
        lived = time.monotonic() - member.started_at
        member.started_at = 0.0
        if member.orders is not None:
            member.orders.close()
            member.orders = None
        if self._ended is not None and process.pid is not None:
            self._ended(process.pid, member.family)
        if process.exitcode in (ExitCode.OK, ExitCode.USAGE) or self._order:
            member.start_after = float("inf")
            return
        worked = self._slate[member.index] != member.read_before
        member.quick_ends = member.quick_ends + 1 if lived < SETTLED_AFTER else 1
        member.failed_starts = 0 if worked else member.failed_starts + 1
        pauses = WORKED_PAUSES if worked else RESTART_PAUSES
        pause = pauses[min(member.quick_ends - 1, len(pauses) - 1)]
        member.start_after = time.monotonic() + pause
        logger.error("worker process %d ended with %s; starting it again", member.index, _cause(process.exitcode))

    def _next_look(self) -> float:
        now = time.monotonic()
        waits = [m.start_after - now for m in self._members if m.process is None or not m.process.is_alive()]
        return max(min([*waits, 1.0]), 0.01)

    def _verdict(self) -> ExitCode:
        codes = {m.process.exitcode for m in self._members if m.process is not None}
        if self._order:  # they had not come far enough to know the signal, or to hold anything
            codes -= {-signal.SIGTERM, -signal.SIGHUP, -signal.SIGQUIT}
        if codes <= {ExitCode.OK}:
            return ExitCode.OK
        if codes <= {ExitCode.OK, ExitCode.INTERRUPTED}:
            return ExitCode.INTERRUPTED
        return ExitCode.USAGE if ExitCode.USAGE in codes else ExitCode.FAILED

    def _kill_all(self) -> None:
        for member in self._members:
            if member.process is not None and member.process.is_alive():
                member.process.kill()
                member.process.join()


def _cause(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"signal {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"
