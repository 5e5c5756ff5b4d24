"""Dead letters put back per second: one replay of them all, no worker running."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from benchmarks.bench import Bench, Trial
from benchmarks.figures import Sample

if TYPE_CHECKING:
    from taskq import TaskQ

COUNT = 100_000
PAGE = 1000
TRACEBACK = 1500
"""Characters."""


def trials(bench: Bench) -> Iterator[Trial]:
    """Only taskq: no rival replays."""
    yield Trial("taskq/replay", f"app.dlq.replay() of {COUNT:,} dead letters with tracebacks", lambda: take(bench))


def take(bench: Bench) -> Sample:
    """Fill the dead letter queue, look at its kinds, replay it."""
    from taskq import TaskQ

    bench.server.fresh()
    app = TaskQ("bench", broker_url=bench.server.url)
    try:
        fill(app, bench.server.client)
        began = time.perf_counter()
        app.dlq.groups()
        looked = time.perf_counter()
        replayed = app.dlq.replay()
        ended = time.perf_counter()
    finally:
        app.close()
    assert replayed == COUNT, f"replayed {replayed} of {COUNT}"
    return {"rate": COUNT / (ended - looked), "groups_ms": (looked - began) * 1000}


def fill(app: TaskQ, client: Any) -> None:
    """Dead letters as the settle script writes them, many at a time, with a traceback of common length."""
    from taskq.client.dlq.letter import Evidence, buried
    from taskq.values.message import WIRE_VERSION, Message, encode, new_id

    keys = app.keys.queue(app.config.task_default_queue)
    evidence = Evidence(error_type="ValueError", error="no", traceback="x" * TRACEBACK, reason="failed", attempts=4)
    _, packed, group, label = buried(b"", "bench.task", evidence)
    for start in range(0, COUNT, PAGE):
        pipeline = client.pipeline(transaction=False)
        for n in range(start, start + PAGE):
            message = encode(Message(WIRE_VERSION, new_id(), "bench.task", [n], {}))
            pipeline.xadd(keys.dead, {"m": message, "i": packed, "g": group})
        pipeline.execute()
    client.hset(keys.dead_groups, mapping={f"n:{group}": COUNT, f"l:{group}": label})
