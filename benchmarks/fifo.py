"""What a FIFO costs: put, get and acknowledge per second, next to the bare commands on redis-py and to ``.delay()``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.bench import say
from benchmarks.figures import paired_ratio, spread
from benchmarks.server import Server
from taskq import TaskQ

VALUE = {"order": 7, "note": "x" * 60}
PAGE = 1000
AHEAD = 100
"""Items that are taken ahead, where any are."""


class Sides:
    """Each measure does *count* items on a server that has nothing else to do.

    Args:
        server: emptied by nobody; every side has a key of its own.
        count: items per sample.
    """

    def __init__(self, server: Server, count: int) -> None:
        self._count = count
        self._client = server.client
        self._client.xgroup_create("bare", "group", "0", mkstream=True)
        self._app = TaskQ("fifo", server.url, namespace="fifo")
        self._jobs = self._app.queue("jobs")
        self._ahead = self._app.queue("jobs", prefetch=AHEAD)
        self._task: Any = self._app.task(name="work", queue="work", ignore_result=True)(lambda value: None)
        self._data = b"x" * 110

    def close(self) -> None:
        """End the connections."""
        self._app.close()

    def measures(self) -> dict[str, tuple[Callable[[], None], Callable[[], None] | None]]:
        """What is timed, by name, with what must be done before."""
        full, bare_full = self._put_many, self._xadd_many
        return {
            "XADD": (self._xadd, self._forget),
            ".delay()": (self._delay, None),
            "put": (self._put, self._drop),
            "XADD, 1,000 in a pipeline": (self._xadd_many, self._forget),
            "put_many": (self._put_many, self._drop),
            "XREADGROUP COUNT 1, XACK": (lambda: self._read(1), lambda: (self._forget(), bare_full())[0]),
            "get, ack": (lambda: self._receive(self._jobs), lambda: (self._drop(), full())[0]),
            f"XREADGROUP COUNT {AHEAD}, XACK each": (
                lambda: self._read(AHEAD),
                lambda: (self._forget(), bare_full())[0],
            ),
            f"get, ack, prefetch={AHEAD}": (lambda: self._receive(self._ahead), lambda: (self._drop(), full())[0]),
        }

    def rate(self, work: Callable[[], None], before: Callable[[], None] | None) -> float:
        """Items per second."""
        if before is not None:
            before()
        begin = time.perf_counter()
        work()
        return self._count / (time.perf_counter() - begin)

    def _xadd(self) -> None:
        for _ in range(self._count):
            self._client.xadd("bare", {"m": self._data})

    def _xadd_many(self) -> None:
        for start in range(0, self._count, PAGE):
            with self._client.pipeline(transaction=False) as pipeline:
                for _ in range(start, min(start + PAGE, self._count)):
                    pipeline.xadd("bare", {"m": self._data})
                pipeline.execute()

    def _read(self, count: int) -> None:
        left = self._count
        while left:
            ((_, entries),) = self._client.xreadgroup("group", "one", {"bare": ">"}, count=min(count, left))
            for entry, _ in entries:
                self._client.xack("bare", "group", entry)
            left -= len(entries)

    def _delay(self) -> None:
        for _ in range(self._count):
            self._task.delay(VALUE)

    def _put(self) -> None:
        for _ in range(self._count):
            self._jobs.put(VALUE)

    def _put_many(self) -> None:
        self._jobs.put_many([VALUE] * self._count)

    def _receive(self, jobs: Any) -> None:
        for _ in range(self._count):
            jobs.get(timeout=0).ack()

    def _forget(self) -> None:
        self._client.xtrim("bare", maxlen=0)

    def _drop(self) -> None:
        self._jobs.purge()


RATIOS = {
    "put": ("XADD", ".delay()"),
    "put_many": ("XADD, 1,000 in a pipeline",),
    "get, ack": ("XREADGROUP COUNT 1, XACK",),
    f"get, ack, prefetch={AHEAD}": (f"XREADGROUP COUNT {AHEAD}, XACK each", "XREADGROUP COUNT 1, XACK"),
}


def run(count: int, turns: int) -> None:
    """Measure in turns, and print rates and ratios: median (least - most)."""
    with tempfile.TemporaryDirectory() as scratch, Server(Path(scratch, "redis")) as server:
        sides = Sides(server, count)
        measures = sides.measures()
        samples: dict[str, list[float]] = {name: [] for name in measures}
        for _ in range(turns):
            for name, (work, before) in measures.items():
                samples[name].append(sides.rate(work, before))
        sides.close()
    say("| | per second | |\n|---|---:|---|")
    for name, rates in samples.items():
        said = [f"{_shown(paired_ratio(rates, samples[other]), 2)} x {other}" for other in RATIOS.get(name, ())]
        say(f"| {name} | {_shown(spread(rates), 0)} | {'; '.join(said)} |")


def _shown(figure: dict[str, float], digits: int) -> str:
    return "{median:,.{0}f} ({min:,.{0}f} - {max:,.{0}f})".format(digits, **figure)
