"""Idempotency keys when workers die, are stale, or have no Redis."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.process import Proc
from support.proxy import FaultProxy
from support.wait import eventually
from support.worker import running_worker

from taskq import TaskQ, TaskState

SHOP = """
import os, signal
from taskq import TaskQ

app = TaskQ("shop", lease_timeout=1)

@app.task(name="pay")
def pay(path):
    first = not os.path.exists(path)
    with open(path, "a") as log:
        log.write("ran\\n")
    if first:
        os.kill(os.getpid(), signal.SIGKILL)
    return "paid"
"""


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_a_message_keeps_its_key_when_its_worker_dies(
    app: TaskQ, spawn: Callable[..., Proc], tmp_path: Path, redis_url: str, namespace: str, pool: str
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    env = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace}
    log = tmp_path / "log"
    first = app.send_task("pay", (str(log),), idempotency_key="order-7")
    worker = spawn("-m", "taskq", "worker", "-A", "shop:app", "-P", pool, env=env)
    if pool == "threads":
        assert worker.wait() == -signal.SIGKILL
        worker = spawn("-m", "taskq", "worker", "-A", "shop:app", "-P", pool, env=env)
    assert first.get(timeout=20) == "paid"
    second = app.send_task("pay", (str(log),), idempotency_key="order-7")
    assert second.get(timeout=30) == "paid"
    assert log.read_text() == "ran\nran\n", "the filter is for second messages, not for second runs"
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_without_an_answer_to_the_claim_nothing_starts(
    app: TaskQ, make_app: Callable[..., TaskQ], redis_url: str
) -> None:
    ran: list[int] = []
    with FaultProxy(redis_url) as proxy:
        behind = make_app(broker_url=proxy.url, lease_timeout=30)

        @behind.task(name="note")
        def note(x: int) -> int:
            ran.append(x)
            return x

        with running_worker(behind):
            for n in range(10):
                proxy.drop_replies(1)
                result = app.send_task("note", (n,), idempotency_key=f"k{n}")
                eventually(lambda result=result: result.status is TaskState.SUCCESS)  # type: ignore[misc]
    assert ran == list(range(10))


def test_a_stale_worker_starts_nothing_that_has_a_key(
    app: TaskQ, redis_client: Any, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease runs out between its fetch and its claim."""
    from taskq.worker.admission import claims

    ran: list[int] = []

    @app.task(name="note")
    def note(x: int) -> int:
        ran.append(x)
        return x

    claim_call, lost = claims.claim_call, []

    def lose_the_lease_first(*args: Any) -> Any:
        if not lost:
            lost.append(redis_client.delete(f"{namespace}:{{default}}:consumers"))
        return claim_call(*args)

    monkeypatch.setattr(claims, "claim_call", lose_the_lease_first)
    with running_worker(app) as running:
        before = running.consumer
        app.send_task("note", (1,), idempotency_key="k")
        eventually(lambda: lost == [1] and running.consumer != before)
        assert ran == []
        assert not redis_client.exists(f"{namespace}:{{default}}:claim:note:k")
        # what the old name held is nobody's, since this test has removed it behind recovery's back
        for row in redis_client.xpending_range(f"{namespace}:{{default}}:stream:5", "taskq", "-", "+", 10):
            redis_client.xack(f"{namespace}:{{default}}:stream:5", "taskq", row["message_id"])
            redis_client.xdel(f"{namespace}:{{default}}:stream:5", row["message_id"])
