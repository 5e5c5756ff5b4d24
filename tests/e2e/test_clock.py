"""Redis's clock is set, forward and back, while workers hold leases that are measured on it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from support.preload import preloaded
from support.wait import eventually
from support.worker import running_worker

from taskq import TaskQ
from taskq.broker import scripts
from taskq.broker.scripts.settling import settle
from taskq.embedded import EmbeddedRedis, find_server

pytestmark = pytest.mark.leaves_keys(reason="the server is the test's own")

LEASE = 1.5
HOUR = 3600


_TIME = """
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec true_time;
  long offset = 0;
  int file = open(getenv("TEST_CLOCK"), O_RDONLY);
  if (file >= 0) {
    char text[32] = {0};
    if (read(file, text, sizeof text - 1) > 0) offset = atol(text);
    close(file);
  }
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &true_time);
  now->tv_sec = true_time.tv_sec + offset;
  now->tv_usec = true_time.tv_nsec / 1000;
  return 0;
}
"""
"""Redis asks this for the time, for TIME, leases and expiries alike."""


class Clock:
    """A server whose clock the test sets: it is told the time by a library of ours."""

    def __init__(self, folder: Path, start: Callable[..., EmbeddedRedis]) -> None:
        self._offset = folder / "offset"
        self.set(0)
        program = preloaded(find_server(), _TIME, {"TEST_CLOCK": str(self._offset)}, folder)
        self.server = start(folder / "data", binary=program, appendonly=False)
        self.client: Any = redis.Redis.from_url(self.server.url, protocol=2)

    def set(self, seconds: int) -> None:
        """Set the clock, relative to the true one."""
        fresh = self._offset.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(self._offset)

    def ahead(self) -> float:
        """Seconds by which the server is ahead of the true time."""
        return float(self.client.time()[0]) - time.time()


@pytest.fixture
def clock(tmp_path: Path, private_redis: Callable[..., EmbeddedRedis]) -> Iterator[Clock]:
    made = Clock(tmp_path, private_redis)
    yield made
    made.client.close()


@pytest.fixture
def two_apps(clock: Clock, make_app: Callable[..., TaskQ]) -> list[TaskQ]:
    """One for each of two workers."""
    return [make_app(broker_url=clock.server.url, lease_timeout=LEASE) for _ in range(2)]


def renewals(app: TaskQ, clock: Clock) -> Any:
    """The time of the last one."""
    return clock.client.get(app.keys.queue("default").renewed)


def test_set_forward_no_living_worker_loses_its_lease(clock: Clock, two_apps: list[TaskQ]) -> None:
    runs: Counter[int] = Counter()
    go_on = threading.Event()
    for app in two_apps:

        @app.task(name="hold")
        def hold(n: int) -> None:
            runs[n] += 1
            go_on.wait(30)

    lost: list[str] = []
    for app in two_apps:
        app.hooks.listen("lease_lost", lost.append)
    sender = two_apps[0]
    with running_worker(sender, concurrency=2), running_worker(two_apps[1], concurrency=2):
        results = sender.tasks["hold"].delay_many([(n,) for n in range(4)])
        eventually(lambda: len(runs) == 4)
        clock.set(HOUR)
        eventually(lambda: clock.ahead() > HOUR - 5)
        seen = set()
        # both have renewed, and looked for the dead, several times
        eventually(lambda: seen.add(renewals(sender, clock)) or len(seen) > 6)  # type: ignore[func-returns-value]
        go_on.set()
        for result in results:
            result.get(timeout=30)
    assert runs == dict.fromkeys(range(4), 1)
    assert not lost


def test_set_back_a_dead_workers_lease_still_runs_out(clock: Clock, two_apps: list[TaskQ]) -> None:
    app = two_apps[0]
    done = threading.Event()

    @app.task(name="left")
    def left() -> None:
        done.set()

    keys = app.keys.queue("default")
    streams = scripts.streams_of(keys, [])
    dead = b"host:1:dead"
    app.sync_broker.run(scripts.register(keys, dead, round(LEASE * 1000), streams))
    left.delay()
    app.sync_broker.run(settle(keys, streams, dead, 1))
    with running_worker(app):
        eventually(lambda: renewals(app, clock))
        clock.set(-HOUR)
        assert eventually(done.is_set, timeout=4 * LEASE + 30)
