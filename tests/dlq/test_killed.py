"""Replays that are killed in the middle and repeated, with another one at the same time: each dead letter once."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from support.process import Proc
from support.wait import eventually

from taskq import TaskQ
from taskq.client.dlq.letter import Evidence, buried
from taskq.values.message import WIRE_VERSION, Message, decode, encode, new_id

Spawn = Callable[..., Proc]


def fill(app: TaskQ, client: Any, count: int) -> None:
    """Dead letters as the settle script writes them, many at a time."""
    keys = app.keys.queue("default")
    client.sadd(app.keys.queues, "default", "slow")
    evidence = Evidence(error_type="ValueError", error="no money", traceback="x" * 1500, reason="failed", attempts=4)
    end = buried(b"", "shop.pay", evidence)
    for start in range(0, count, 1000):
        pipeline = client.pipeline(transaction=False)
        for n in range(start, min(start + 1000, count)):
            data = encode(Message(WIRE_VERSION, new_id(), "shop.pay", [n], {}))
            pipeline.xadd(keys.dead, {"m": data, "i": end.evidence, "g": end.fingerprint})
        pipeline.execute()
    client.hset(keys.dead_groups, mapping={f"n:{end.fingerprint}": count, f"l:{end.fingerprint}": end.label})


def numbers(client: Any, app: TaskQ, queue: str) -> Counter[int]:
    """How often each message is in a queue, which is emptied."""
    stream = app.keys.queue(queue).stream(5)
    found: Counter[int] = Counter()
    while entries := client.xrange(stream, count=2000):
        found.update(decode(fields[b"m"]).args[0] for _, fields in entries)
        client.xdel(stream, *(entry for entry, _ in entries))
    return found


def command(app: TaskQ, *more: str) -> list[str]:
    return ["-m", "taskq", "dlq", "replay", "--broker-url", app.config.broker_url, "--namespace", app.config.namespace,
            "--all", *more]  # fmt: skip


@pytest.mark.parametrize(
    ("point", "to"),
    [("replay.page:2", ""), ("replay.sent:2", "slow")],
    ids=str,
)
def test_each_is_replayed_once(app: TaskQ, redis_client: Any, spawn: Spawn, point: str, to: str) -> None:
    fill(app, redis_client, 1600)
    arguments = command(app, *(("--to", to) if to else ()))
    killed = spawn(*arguments, env={"TASKQ_FAILPOINT": point})
    assert killed.wait() == -signal.SIGKILL
    assert 0 < app.dlq.count() < 1600
    pair = [spawn(*arguments), spawn(*arguments)]
    assert [process.wait() for process in pair] == [0, 0]
    assert numbers(redis_client, app, to or "default") == dict.fromkeys(range(1600), 1)
    assert app.dlq.count() == 0
    assert app.dlq.groups() == []
    assert sum(run.total.replayed for run in app.dlq.runs("default")) == 1600


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("to", ["", "slow"])
def test_a_hundred_thousand_are_replayed_once(app: TaskQ, redis_client: Any, spawn: Spawn, to: str) -> None:
    """kill -9 again and again, with a second replay beside it."""
    count = 100_000
    fill(app, redis_client, count)
    arguments = command(app, *(("--to", to) if to else ()))
    for _ in range(5):
        before = app.dlq.count()
        victim, beside = spawn(*arguments), spawn(*arguments)
        eventually(lambda before=before: app.dlq.count() < before - 2000, timeout=60)
        victim.signal(signal.SIGKILL)
        beside.signal(signal.SIGKILL)
        victim.wait()
        beside.wait()
    assert 0 < app.dlq.count() < count
    began = time.monotonic()
    left = app.dlq.count()
    pair = [spawn(*arguments), spawn(*arguments)]
    assert [process.wait(timeout=120) for process in pair] == [0, 0]
    print(f"the last {left} at {left / (time.monotonic() - began):,.0f}/s, two replays at a time")
    assert numbers(redis_client, app, to or "default") == dict.fromkeys(range(count), 1)
    assert app.dlq.count() == 0
    assert app.dlq.groups() == []
    assert sum(run.total.replayed for run in app.dlq.runs("default")) == count


def test_a_purge_beside_a_replay_leaves_each_to_one_of_them(app: TaskQ, redis_client: Any, spawn: Spawn) -> None:
    fill(app, redis_client, 2000)
    common = ["--broker-url", app.config.broker_url, "--namespace", app.config.namespace, "--all"]
    purging = ["-m", "taskq", "dlq", "purge", *common, "--yes"]
    both = [spawn(*command(app)), spawn(*purging), spawn(*command(app)), spawn(*purging)]
    assert [process.wait() for process in both] == [0, 0, 0, 0]
    there = numbers(redis_client, app, "default")
    replayed = sum(run.total.replayed for run in app.dlq.runs("default"))
    purged = sum(int(process.output().split("purged ")[1].split()[0]) for process in both[1::2])
    assert set(there.values()) <= {1}
    assert (len(there), replayed + purged) == (replayed, 2000)
    assert (app.dlq.count(), app.dlq.groups()) == (0, [])
