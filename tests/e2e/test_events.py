"""Subscribers in real processes, one of which is killed; a group that is slow holds up nobody."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.process import Proc
from support.wait import eventually
from support.worker import run_burst, running_worker

from taskq import Event, TaskQ
from taskq.client.loading import load_app

APP = """
import os, time

from taskq import TaskQ

app = TaskQ("shop", lease_timeout=0.6)
app.topic("orders")
effects = os.open({effects!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@app.subscriber("orders", group="g", ordered=True)
def handle(event):
    time.sleep(0.002)
    os.write(effects, f"{{event.key}} {{event.payload}}\\n".encode())
"""


@pytest.mark.slow
def test_a_killed_subscriber_loses_no_event_and_no_order(
    tmp_path: Path, redis_url: str, namespace: str, spawn: Callable[..., Proc]
) -> None:
    effects = tmp_path / "effects.txt"
    effects.touch()
    (tmp_path / "events_app.py").write_text(APP.format(effects=str(effects)))
    environment = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace}

    def worker() -> Proc:
        return spawn("-m", "taskq", "worker", "-A", "events_app:app", env=environment)

    def handled() -> list[list[str]]:
        return [line.split() for line in effects.read_text().splitlines()]

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        app: TaskQ = load_app("events_app:app")
    app.reconfigure(broker_url=redis_url, namespace=namespace)
    app.publish_many("orders", range(600), key=lambda number: f"k{number % 5}")
    first = worker()
    eventually(lambda: len(handled()) > 50, timeout=30)
    first.signal(signal.SIGKILL)
    first.wait()
    second = worker()
    eventually(lambda: len({payload for _, payload in handled()}) == 600, timeout=30)
    second.signal(signal.SIGTERM)
    assert second.wait() == 0
    for remainder in range(5):
        begun = list(dict.fromkeys(int(payload) for key, payload in handled() if key == f"k{remainder}"))
        assert begun == list(range(remainder, 600, 5))
    app.close()


def test_a_slow_group_holds_up_neither_another_nor_the_topic(app: TaskQ) -> None:
    app.topic("orders", max_events=2000)
    go_on = threading.Event()
    fast: list[int] = []

    @app.subscriber("orders", group="slow", max_retries=0)
    def wait(event: Event) -> None:
        assert go_on.wait(30)

    @app.subscriber("orders", group="fast")
    async def note(event: Event) -> None:
        fast.append(event.payload)

    missed: list[tuple[str, int]] = []
    app.hooks.listen("trimmed_unread", lambda queue, count: missed.append((queue, count)))
    with running_worker(app, queues=["orders/slow"]), running_worker(app, queues=["orders/fast"]):
        app.publish("orders", -1)
        eventually(lambda: {group.group for group in app.events.groups("orders")} == {"fast", "slow"})
        for page in range(6):
            app.publish_many("orders", range(page * 1000, page * 1000 + 1000))
            eventually(lambda count=page: len(fast) == 1001 + count * 1000)  # type: ignore[misc]
        slow = next(group for group in app.events.groups("orders") if group.group == "slow")
        # a thousand copies, and what its worker took of them and gave back to the front
        assert slow.waiting + slow.pending <= 1600, "what a slow group costs is bounded"
        assert app.events.topics()[0].kept < 2500
        assert slow.trimmed > 0, "known before a worker of the group has seen it"
        go_on.set()
        eventually(lambda: not any(group.lag or group.pending for group in app.events.groups("orders")), timeout=30)
    assert sum(count for queue, count in missed if queue == "orders/slow") >= slow.trimmed
    run_burst(app)
