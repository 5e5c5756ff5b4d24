"""A million delayed tasks that are due in the same second.

Started by hand, with its figures::

    pytest -m soak -s tests/e2e/test_delayed_million.py
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from support.process import Proc
from support.wait import eventually

from taskq import TaskQ
from taskq.embedded import EmbeddedRedis

COUNT = 1_000_000
PAGE = 10_000
SLOW_US = 5_000
SHOP = """
from taskq import TaskQ

app = TaskQ("shop")

@app.task(name="noop", ignore_result=True)
async def noop(): ...
"""


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_million_tasks_due_in_one_second(
    private_redis: Callable[..., EmbeddedRedis],
    spawn: Callable[..., Proc],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    server = private_redis(tmp_path / "redis")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1 and server.pid:
        # workers that take Redis's core away would be measured as slow scripts
        os.sched_setaffinity(server.pid, cores[:1])
        request.addfinalizer(lambda: os.sched_setaffinity(0, cores))
        os.sched_setaffinity(0, cores[1:])
    (tmp_path / "million_shop.py").write_text(SHOP)
    app = TaskQ("test", server.url)
    noop = app.task(name="noop", ignore_result=True)(lambda: None)
    keys = app.keys.queue("default")
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=120)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("auto-aof-rewrite-percentage", 0)  # its process would take turns with Redis
        client.config_set("slowlog-log-slower-than", SLOW_US)
        client.config_set("slowlog-max-len", 100_000)
        client.slowlog_reset()
        began = time.monotonic()
        for _ in range(COUNT // PAGE):
            with app.batch():
                for _ in range(PAGE):
                    noop.options(eta=due).delay()
        sent = time.monotonic() - began
        assert client.zcard(keys.delayed) == COUNT, "sending took longer than until they were due"
        sending = _slow_calls(client), _times(client)
        client.config_resetstat()
        workers = [
            spawn("-m", "taskq", "worker", "-A", "million_shop:app", env={"TASKQ_BROKER_URL": server.url})
            for _ in range(2)
        ]
        eventually(lambda: client.zcard(keys.delayed) < COUNT, timeout=180)
        began = time.monotonic()
        eventually(lambda: client.zcard(keys.delayed) == 0, timeout=900)
        promoted = time.monotonic() - began
        eventually(lambda: int(client.hget(keys.totals, "SUCCESS:noop") or 0) >= COUNT, timeout=900)
        ended = time.monotonic() - began
        promoting = _slow_calls(client), _times(client)
        total = int(client.hget(keys.totals, "SUCCESS:noop"))
        print(
            f"\n{COUNT:,} sent in {sent:.0f} s, promoted in {promoted:.1f} s, run in {ended:.1f} s by {len(workers)} "
            f"workers; lost {COUNT - total}"
        )
        for what, (slow, times) in (("sending", sending), ("promoting and running", promoting)):
            print(f"while {what}: {times}; calls above {SLOW_US / 1000:g} ms: {slow or 'none'}")
        assert total == COUNT
        assert client.xlen(keys.dead) == 0
    app.close()


def _times(client: redis.Redis) -> str:
    """How long script calls took, and a command that takes a microsecond: what that shows above is the machine's."""
    client.config_set("latency-tracking-info-percentiles", "50 99 99.9 100")
    stats = client.info("latencystats")
    told = []
    for name in ("evalsha", "zadd", "xadd"):
        times = stats.get(f"latency_percentiles_usec_{name}", {})
        told.append(f"{name} " + ", ".join(f"{point} {usec / 1000:.2f} ms" for point, usec in times.items()))
    return "; ".join(told)


def _slow_calls(client: redis.Redis) -> dict[str, list[float]]:
    """The calls above the limit since the last look, by script or command: the longest in milliseconds, how many."""
    found: dict[str, list[float]] = {}
    for row in client.slowlog_get(100_000):
        words = row["command"].split(b" ")
        name = b" ".join(words[:2]).decode(errors="replace")
        found.setdefault(name, []).append(row["duration"] / 1000)
    client.slowlog_reset()
    return {name: [*sorted(values)[-5:], float(len(values))] for name, values in found.items()}
