"""Started workers of one contender: wait for what they do, see what they use, end them."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Self

from benchmarks import processes
from benchmarks.contenders import Contender, Setup
from benchmarks.figures import Sample
from benchmarks.readout import Count, Readout
from benchmarks.server import Server

STALL_SECONDS = 20.0
"""Without any task ending for this long, the rest counts as missing."""
LOOK_SECONDS = 0.004
SURPLUS_SECONDS = 0.1
"""How long to look for tasks that run more than once."""


class Workers:
    """The workers of one setup, running while the block lasts.

    Args:
        contender, setup: what to start.
        server: the Redis they work on.
        scratch: for their tally and log.
        results: whether results are stored.
        grace: seconds they may take to end; without it they are killed.
    """

    def __init__(
        self,
        contender: Contender,
        setup: Setup,
        server: Server,
        scratch: Path,
        *,
        results: bool = False,
        grace: float = 0,
    ) -> None:
        self._server = server
        self._grace = grace
        self._log = scratch / f"{contender.name}-{setup.name}.log"
        self.readout = Readout(scratch / "tally")
        self.spawned_at = time.monotonic_ns()
        environment = contender.environment(server.url, results=results, tally=self.readout.path) | dict(setup.env)
        with self._log.open("wb") as log:
            self._processes = [
                subprocess.Popen(
                    contender.command(setup, server.url, copy),
                    cwd=contender.directory,
                    env=environment | {"BENCH_COPY": str(copy)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                for copy in range(setup.copies)
            ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        sessions = [process.pid for process in self._processes]
        if self._grace:
            for process in self._processes:
                process.terminate()
            limit = time.monotonic() + self._grace
            while processes.of_sessions(sessions) and time.monotonic() < limit:
                for process in self._processes:
                    process.poll()
                time.sleep(0.02)
        processes.end_sessions(sessions, grace=0)
        for process in self._processes:
            process.wait()

    def pids(self) -> list[int]:
        """Every process that the workers consist of."""
        return processes.of_sessions(process.pid for process in self._processes)

    def log_tail(self) -> str:
        """The end of what they printed."""
        return self._log.read_text(errors="replace")[-1500:]

    def wait_for(self, count: int) -> Count:
        """Wait until *count* tasks have ended in all.

        Raises:
            RuntimeError: too few of them ran.
        """
        moved_at, before = time.monotonic(), -1
        while True:
            seen = self.readout.count()
            if seen.ended >= count:
                return seen
            if seen.ended != before:
                moved_at, before = time.monotonic(), seen.ended
            ended = all(process.poll() is not None for process in self._processes)
            if ended or time.monotonic() - moved_at > STALL_SECONDS:
                raise RuntimeError(f"{seen.ended} of {count} tasks ran: {self.log_tail()}")
            time.sleep(LOOK_SECONDS)

    def drain(self, count: int) -> Sample:
        """Wait until *count* prepared tasks have ended: their rate, what each cost, and how many ran once too often."""
        while not (seen := self.readout.count()).started:
            if all(process.poll() is not None for process in self._processes):
                raise RuntimeError(f"no task ran: {self.log_tail()}")
            if time.monotonic_ns() - self.spawned_at > STALL_SECONDS * 2e9:
                raise RuntimeError(f"no task started: {self.log_tail()}")
            time.sleep(LOOK_SECONDS)
        cpu, redis_cpu, commands = (
            processes.cpu_seconds(self.pids()),
            self._server.cpu_seconds(),
            self._server.commands(),
        )
        done = self.wait_for(count)
        watched = max(done.ended - seen.ended, 1)
        sample = {
            "rate": done.ended / done.seconds,
            "us": 1e6 * done.seconds / done.ended,
            "cpu_us": 1e6 * (processes.cpu_seconds(self.pids()) - cpu) / watched,
            "redis_us": 1e6 * (self._server.cpu_seconds() - redis_cpu) / watched,
            "commands": (self._server.commands() - commands) / watched,
        }
        time.sleep(SURPLUS_SECONDS)
        return sample | {"surplus": self.readout.count().ended - count}
