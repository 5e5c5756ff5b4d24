"""What a worker asks about revoked ids before it starts what it has read: nothing while there are none."""

from __future__ import annotations

import time
from typing import Any

import pytest
from support.wait import eventually
from support.worker import running_worker

from taskq import TaskQ, TaskRevokedError
from taskq.worker.partition.partition import QueueLink


def test_a_message_waits_for_no_second_question_while_nothing_is_revoked(app: TaskQ, redis_client: Any) -> None:
    @app.task
    def ping() -> str:
        return "pong"

    def lookups() -> int:
        return int(redis_client.info("commandstats").get("cmdstat_zmscore", {"calls": 0})["calls"])

    with running_worker(app) as running:
        ping.delay().get(timeout=20)
        before = lookups()
        for _ in range(5):
            eventually(lambda: running.worker._fetcher._reader.reading)
            ping.delay().get(timeout=20)
        assert lookups() == before


def test_a_mark_of_which_nobody_told_the_worker_is_heeded(app: TaskQ, redis_client: Any) -> None:
    ran: list[int] = []

    @app.task
    def note(n: int) -> None:
        ran.append(n)

    with running_worker(app) as running:
        note.delay(1).get(timeout=20)
        eventually(lambda: running.worker._fetcher._reader.reading)
        redis_client.zadd(app.keys.queue("default").revoked, {"marked": (time.time() + 600) * 1000})
        result = note.apply_async((2,), task_id="marked")
        with pytest.raises(TaskRevokedError):
            result.get(timeout=20)
    assert ran == [1]


def test_what_was_heard_of_while_an_answer_was_under_way_is_looked_up_once(app: TaskQ) -> None:
    link = QueueLink(app.keys.queue("default"), b"consumer")
    assert link.must_look_up(revoked=False), "nobody has said yet that nothing is revoked"
    assert not link.must_look_up(revoked=False)
    link.revocations = True  # the control channel was quicker than the answer
    assert link.must_look_up(revoked=False)
    assert not link.must_look_up(revoked=False)
    assert link.must_look_up(revoked=True)
