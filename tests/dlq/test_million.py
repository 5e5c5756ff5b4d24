"""A million dead letters: what each look and each action costs, in time, memory and time of Redis.

Started by hand, with its figures::

    pytest -m soak -s tests/dlq/test_million.py
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from taskq import TaskQ
from taskq.broker import scripts
from taskq.client.dlq.letter import Evidence, buried
from taskq.client.dlq.periodic import sweep
from taskq.embedded import EmbeddedRedis
from taskq.values.message import WIRE_VERSION, Message, Meta, encode, new_id

COUNT = 1_000_000
KINDS = 20
PAGE = 1000
GROWTH = 50
"""Most megabytes that a process may grow by."""


def fill(app: TaskQ, client: Any) -> dict[str, int]:
    """Dead letters as the settle script writes them, of twenty kinds; how many there are of each."""
    keys = app.keys.queue("default")
    client.sadd(app.keys.queues, "default")
    kinds = []
    for n in range(KINDS):
        evidence = Evidence(error_type=f"E{n}", error="no", traceback="x" * 400, reason="failed", attempts=4)
        kinds.append(buried(b"", "shop.pay", evidence))
    for start in range(0, COUNT, PAGE):
        pipeline = client.pipeline(transaction=False)
        for n in range(start, start + PAGE):
            end = kinds[n % KINDS]
            data = encode(Message(WIRE_VERSION, new_id(), "shop.pay", [n], {}, Meta(replays=3)))
            pipeline.xadd(keys.dead, {"m": data, "i": end.evidence, "g": end.fingerprint})
        pipeline.execute()
    for end in kinds:
        group = end.fingerprint
        client.hset(keys.dead_groups, mapping={f"n:{group}": COUNT // KINDS, f"l:{group}": end.label})
    return {end.fingerprint: COUNT // KINDS for end in kinds}


@contextmanager
def measured(client: Any, what: str) -> Iterator[None]:
    """Print what a step took, and make sure that this process did not grow with the number of dead letters."""
    client.config_resetstat()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from now on
    before = memory("VmRSS")
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    growth = memory("VmHWM") - before
    stats = client.info("latencystats")
    names = [name for name in stats if "config" not in name]
    name = max(names, key=lambda name: stats[name]["p99"])
    times = ", ".join(f"{point} {stats[name][point] / 1000:.2f} ms" for point in ("p50", "p99", "p100"))
    print(f"{what:<34} {took:7.2f} s  {growth:4.0f} MB  {name.removeprefix('latency_percentiles_usec_')} {times}")
    assert growth < GROWTH


def memory(field: str) -> float:
    """Megabytes of this process."""
    (line,) = (each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(field))
    return int(line.split()[1]) / 1024


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_million_dead_letters(private_redis: Callable[..., EmbeddedRedis], tmp_path: Path) -> None:
    server = private_redis(tmp_path / "redis")
    app = TaskQ("test", server.url)
    app.task(name="shop.pay")(lambda number: None)
    keys = app.keys.queue("default")
    with redis.Redis.from_url(server.url) as client:
        client.config_set("auto-aof-rewrite-percentage", 0)  # its process would take turns with Redis
        client.config_set("latency-tracking-info-percentiles", "50 99 100")
        kinds = fill(app, client)
        one, two = list(kinds)[:2]
        print()
        with measured(client, "count"):
            assert app.dlq.count() == COUNT
        with measured(client, "groups"):
            assert {group.fingerprint: group.count for group in app.dlq.groups()} == kinds
        with measured(client, "list, the newest 100"):
            newest = app.dlq.page(newest_first=True, limit=100).letters
        with measured(client, "list --text, 20,000 looked at"):
            assert app.dlq.page(text="nowhere").scanned == 20_000
        with measured(client, "show by its id there"):
            assert app.dlq.get(newest[0].entry)
        with measured(client, "show by task id"):
            assert app.dlq.get(newest[0].task_id)
        with measured(client, "replay by schedule, all parked"):
            first = sweep(app, "one", None, begin=True)
            while first is not None:
                first = sweep(app, "one", None, begin=False)
        with measured(client, "the same again"):
            assert sweep(app, "two", None, begin=True) is None
        with measured(client, "export"):
            assert app.dlq.export_to(tmp_path / "all.jsonl") == COUNT
        app.dlq.export_to(tmp_path / "kind.jsonl", fingerprint=two)
        with measured(client, "replay of one kind in twenty"):
            assert app.dlq.replay(fingerprint=one) == COUNT // KINDS
        with measured(client, "purge of one kind in twenty"):
            assert app.dlq.purge(fingerprint=two) == COUNT // KINDS
        until = app.dlq.page(limit=1, after=f"default@{half(client, keys.dead, 400_000)}").letters[0].entered_at
        with measured(client, "replay of 400,000"):
            replayed = app.dlq.replay(until=until)
        left = COUNT - 2 * COUNT // KINDS - replayed
        assert app.dlq.count() == left
        with measured(client, "retention down to 200,000"):
            while app.sync_broker.run(scripts.evict(keys, None, 200_000))[2]:
                pass
        with measured(client, "purge of 200,000"):
            assert app.dlq.purge() == 200_000
        assert (app.dlq.count(), app.dlq.groups()) == (0, [])
        assert client.xlen(keys.stream(5)) == COUNT // KINDS + replayed
        with measured(client, "import of 50,000"):
            assert app.dlq.import_from(tmp_path / "kind.jsonl") == (COUNT // KINDS, 0)
    app.close()


def half(client: Any, dead: bytes, count: int) -> str:
    """The id of the dead letter that comes after *count* others."""
    at = "-"
    for _ in range(count // 10_000):
        at = "(" + client.xrange(dead, at, "+", 10_000)[-1][0].decode()
    return at[1:]
