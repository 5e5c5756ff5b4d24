"""The parent's side of the child processes: one connection each, what a child holds, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, cast

from taskq.values.delivery import Delivery
from taskq.worker.running.executors import child

logger = logging.getLogger("taskq.worker")

MOST_ANSWERED = 1 << 29
"""Bytes of answers in one frame: Redis takes no more of one value, and no text begins with a smaller number."""
EXIT_KNOWN = 5.0
"""Longest seconds from a child's death until the fork server tells its exit code; usually a few milliseconds."""


class Pool(Protocol):
    """Whom a child belongs to."""

    def answered(self, each: Child, answers: list[Any]) -> None:
        """*each* has finished some messages."""

    def died(self, each: Child) -> None:
        """*each* is gone."""


class Child(asyncio.Protocol):
    """The parent's side of one child process."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.slate: Any = None
        self.process: Any = None
        self.held: dict[int, Delivery] = {}
        self.transport: asyncio.Transport | None = None
        self.ready = False
        self.closing = False
        """Whether it was told to end, with nothing to run."""
        self.lifeline: Connection | None = None
        self.timers: dict[int, asyncio.TimerHandle] = {}
        """When the time limits of what it holds are looked at."""
        self.killed_for: Delivery | None = None
        """What it ran too long, or after it was revoked, so that we killed it."""
        self.strange = False
        """Whether it gave an answer that we do not understand: nothing that it says counts any more."""
        self._given = 0
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.closing:
            transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            for answers in child.take_frames(self._buffer, MOST_ANSWERED):
                self.ready = not self.strange
                self.pool.answered(self, answers)
        except Exception:  # a task may have written to what it does not own
            logger.exception("a child process gave a strange answer; it is ended, with what it runs")
            self.strange, self.ready = True, False
            self._buffer.clear()
            self.kill()
            assert self.transport is not None
            self.transport.abort()
            self.pool.answered(self, [])

    def connection_lost(self, exc: Exception | None) -> None:
        self.pool.died(self)

    def running(self) -> Delivery | None:
        """What the child runs now, as it wrote on its slate."""
        return None if self.slate is None else self.held.get(int(self.slate[child.RUNNING]))

    def has_begun(self, number: int) -> bool:
        """Whether the child has begun what was given to it as *number*: it takes one after the other."""
        return self.slate is not None and number <= abs(int(self.slate[child.RUNNING]))

    def hold(self, delivery: Delivery) -> int:
        """Take *delivery*; the number under which the child knows it."""
        self._given += 1
        self.held[self._given] = delivery
        return self._given

    def let_go(self, delivery: Delivery) -> None:
        """Undo :meth:`hold`, of what was not sent."""
        for number in [number for number, held in self.held.items() if held is delivery]:
            del self.held[number]
            if (timer := self.timers.pop(number, None)) is not None:
                timer.cancel()

    def tell_to_stop(self, number: int, member: int) -> None:
        """Have the child not start one that lies in its pipe; of a batch, only that *member*."""
        assert self.transport is not None
        self.transport.write(child.pack_frame({number: member}))
        self.slate[child.TOLD] += 1  # after the write: who sees this waits for it

    def kill(self) -> None:
        """End the child at once, with the programs that its task has started; ``connection_lost`` follows."""
        if self.process is None or self.process.pid is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it has come to nothing yet, or is long gone
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()

    def close(self) -> None:
        """Have the child end in order; it runs its exit hooks."""
        self.closing = True
        if self.transport is not None:
            self.transport.close()


_POLLING = threading.Lock()
"""Whoever starts a process asks for the exit codes of all others, and multiprocessing says 255 for a process that two
threads ask about at the same moment."""


def start(process: BaseProcess) -> None:
    """Start a process; from any thread."""
    with _POLLING:
        process.start()


def exit_code_of(process: BaseProcess) -> int | None:
    """The exit code of a process that is ending; None if it is not known soon."""
    wait([process.sentinel], EXIT_KNOWN)
    with _POLLING:
        return process.exitcode
