"""The nemesis: faults drawn from a seed, at drawn times, each with its heal, each written down."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import random
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

import redis
from support.process import Proc

from taskq.errors import ExitCode

from .cluster import Cluster, children_of

KILLS = {"kill worker": 55, "kill child": 20, "kill producer": 15, "kill beat": 10}
"""Kinds of kill and their weights."""
OTHERS = {
    "pause worker": 5,
    "blink worker": 2,
    "term worker": 3,
    "redis pause": 2,
    "proxy cut": 3,
    "proxy drop": 4,
    "proxy delay": 2,
    "proxy stall": 2,
    "proxy refuse": 2,
    "script flush": 2,
    "client kill": 2,
}
"""Faults besides kills and their weights."""


class Op(NamedTuple):
    """One planned fault."""

    at: float
    """Seconds from the start of the load."""
    kind: str
    draw: float
    """A number in [0, 1) that chooses the target and the length."""


def schedule(seed: int, seconds: float, kills: int, redis_kills: int, only: str = "") -> list[Op]:
    """The faults of one run: always the same for the same arguments.

    Args:
        seed: draws kinds, times, targets and lengths.
        seconds: how long the load lasts.
        kills: how many kills of taskq's processes; half as many other faults come on top.
        redis_kills: how many kills of Redis.
        only: a kind; then there are *kills* faults of it, and no others.
    """
    draw = random.Random(f"{seed}/nemesis")
    if only:
        kinds = [only] * kills
    else:
        kinds = draw.choices(list(KILLS), list(KILLS.values()), k=kills)
        kinds += draw.choices(list(OTHERS), list(OTHERS.values()), k=max(kills // 2, 1))
        kinds += ["redis kill"] * redis_kills
    draw.shuffle(kinds)
    # in the first and last twentieth nothing happens: there is load on both sides of every fault
    times = sorted(draw.uniform(0.05 * seconds, 0.95 * seconds) for _ in kinds)
    return [Op(at, kind, draw.random()) for at, kind in zip(times, kinds, strict=True)]


class Fleet:
    """The processes by role, and how to start one again; whoever dies comes back after a moment."""

    def __init__(self) -> None:
        self.members: dict[str, list[tuple[Proc, Callable[[], Proc]]]] = {"worker": [], "producer": [], "beat": []}
        self.stopping = False
        self.unexpected: list[str] = []
        """Processes that ended though nobody had killed them."""
        self.doomed: set[int] = set()

    def add(self, role: str, start: Callable[[], Proc]) -> None:
        """Start a process that must live."""
        self.members[role].append((start(), start))

    def running(self, role: str) -> list[Proc]:
        """Those that run now."""
        return [process for process, _ in self.members[role] if process.running()]

    def tend(self) -> None:
        """Start again what has died; a producer that ended in order is done."""
        for role, members in self.members.items():
            for at, (process, start) in enumerate(members):
                if process.running() or self.stopping:
                    continue
                code = process.wait()
                if role == "producer" and code == 0:
                    continue
                # a process that found no Redis at its start says so and leaves: its manager starts it again
                if process.pid not in self.doomed and code != ExitCode.UNAVAILABLE:
                    self.unexpected.append(f"{role} {process.pid} ended with {code}: {process.output()[-2000:]}")
                    self.doomed.add(process.pid)
                members[at] = (start(), start)

    def sending(self) -> bool:
        """Whether a producer has more to send."""
        return any(process.running() or process.wait() != 0 for process, _ in self.members["producer"])

    def all(self) -> list[Proc]:
        """Every process."""
        return [process for members in self.members.values() for process, _ in members]


class Nemesis:
    """Carries out a schedule.

    Args:
        cluster: what to break.
        fleet: its processes.
        ops: the schedule.
    """

    def __init__(self, cluster: Cluster, fleet: Fleet, ops: list[Op]) -> None:
        assert cluster.proxy is not None
        self._proxy = cluster.proxy
        self._cluster = cluster
        self._fleet = fleet
        self._ops = list(reversed(ops))
        self._heals: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._began = time.monotonic()
        self._paused: set[int] = set()

    @property
    def done(self) -> bool:
        """Whether everything is broken and healed again."""
        return not self._ops and not self._heals

    def step(self) -> None:
        """Heal and break what is due."""
        while self._heals and self._heals[0][0] <= time.monotonic():
            heapq.heappop(self._heals)[2]()
        while self._ops and self._ops[-1].at <= time.monotonic() - self._began:
            op = self._ops.pop()
            getattr(self, "_" + op.kind.replace(" ", "_"))(op.draw)

    def heal(self) -> None:
        """Break nothing more, and heal everything now."""
        self._ops.clear()
        while self._heals:
            heapq.heappop(self._heals)[2]()

    def _later(self, seconds: float, heal: Callable[[], None]) -> None:
        heapq.heappush(self._heals, (time.monotonic() + seconds, next(self._order), heal))

    def _pick(self, role: str, draw: float) -> Proc | None:
        found = [process for process in self._fleet.running(role) if process.pid not in self._paused]
        return found[int(draw * len(found))] if found else None

    def _kill(self, role: str, draw: float) -> None:
        process = self._pick(role, draw)
        if process is not None:
            self._fleet.doomed.add(process.pid)
            self._cluster.kill(process, f"kill {role}")

    def _kill_worker(self, draw: float) -> None:
        self._kill("worker", draw)

    def _kill_producer(self, draw: float) -> None:
        self._kill("producer", draw)

    def _kill_beat(self, draw: float) -> None:
        self._kill("beat", draw)

    def _kill_child(self, draw: float) -> None:
        children = [child for worker in self._fleet.running("worker") for child in children_of(worker.pid)]
        if not children:
            return
        pid, begin = children[int(draw * len(children))], time.monotonic_ns()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)  # the process is not ours to reap: by then it is gone
        self._cluster.log.add("kill child", begin, pid=pid)

    def _pause_worker(self, draw: float) -> None:
        self._pause(draw, self._cluster.lease * (1.5 + draw))

    def _blink_worker(self, draw: float) -> None:
        self._pause(draw, self._cluster.lease * 0.3)

    def _pause(self, draw: float, seconds: float) -> None:
        process = self._pick("worker", draw)
        if process is None:
            return
        begin = time.monotonic_ns()
        process.signal(signal.SIGSTOP)
        self._paused.add(process.pid)

        def heal() -> None:
            self._paused.discard(process.pid)
            self._cluster.resume(process, begin)

        self._later(seconds, heal)

    def _term_worker(self, draw: float) -> None:
        process = self._pick("worker", draw)
        if process is not None:
            self._fleet.doomed.add(process.pid)
            process.signal(signal.SIGTERM)
            # no fault that would excuse a second run: what runs may end, what waits is handed back
            self._cluster.log.add("rolling restart", time.monotonic_ns(), pid=process.pid)

    def _redis_pause(self, draw: float) -> None:
        begin, pid = time.monotonic_ns(), self._cluster.server.pid
        os.kill(pid, signal.SIGSTOP)

        def heal() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            self._cluster.log.add("redis pause", begin, pid=pid)

        self._later(0.5 + 2 * draw, heal)

    def _redis_kill(self, draw: float) -> None:
        begin, pid = time.monotonic_ns(), self._cluster.server.pid
        self._cluster.server.kill()
        time.sleep(0.5 * draw)
        self._cluster.server.restart()
        self._cluster.log.add("redis kill", begin, pid=pid)

    def _proxy_cut(self, draw: float) -> None:
        begin = time.monotonic_ns()
        cut = self._proxy.cut()
        self._cluster.log.add("proxy cut", begin, note=f"{cut} connections")

    def _proxy_drop(self, draw: float) -> None:
        def end() -> None:
            self._proxy.drop_replies(0)
            self._proxy.cut()  # a connection that missed one reply must not go on with the next

        self._proxy.drop_replies(1 + int(4 * draw))
        self._spell("proxy drop", 0.2, end)

    def _proxy_delay(self, draw: float) -> None:
        self._proxy.delay(0.02 + 0.1 * draw)
        self._spell("proxy delay", 1.0, lambda: self._proxy.delay(0))

    def _proxy_stall(self, draw: float) -> None:
        self._proxy.stall()
        self._spell("proxy stall", 0.3 + 2 * draw, self._proxy.resume)

    def _proxy_refuse(self, draw: float) -> None:
        self._proxy.refuse()
        self._proxy.cut()
        self._spell("proxy refuse", 0.3 + 2 * draw, self._proxy.accept)

    def _spell(self, kind: str, seconds: float, end: Callable[[], object]) -> None:
        """A fault that has just begun and ends by *end*."""
        begin = time.monotonic_ns()

        def heal() -> None:
            end()
            self._cluster.log.add(kind, begin)

        self._later(seconds, heal)

    def _script_flush(self, draw: float) -> None:
        self._command("script flush", "SCRIPT", "FLUSH")

    def _client_kill(self, draw: float) -> None:
        self._command("client kill", "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def _command(self, kind: str, *words: str) -> None:
        begin, note = time.monotonic_ns(), ""
        try:
            self._cluster.operator.execute_command(*words)
        except redis.RedisError as error:  # another fault has come first
            note = str(error)
        self._cluster.log.add(kind, begin, note=note)
