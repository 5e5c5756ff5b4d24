"""What somebody else wrote into our keys: a worker passes over it, and serves the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from support.wait import eventually
from support.worker import running_worker

from taskq import TaskQ
from taskq.values.message import DEFAULT_PRIORITY, new_id
from taskq.worker.running.unknown import MOST_NAMES, UnknownTasks, delay_ms

MakeApp = Callable[..., TaskQ]


@pytest.fixture
def adding(make_app: MakeApp) -> TaskQ:
    app = make_app(lease_timeout=1)

    @app.task(name="add", max_retries=1)
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="other", queue="other")
    def other() -> str:
        return "done"

    return app


def entry(meta: dict[str, Any], task: str = "add") -> bytes:
    """A message as another program may write it."""
    return msgspec.msgpack.encode([1, new_id(), task, [1, "x"], {}, meta])


@pytest.mark.parametrize("level", [-5, 10, 99, 2**60, 1.5, float("nan"), "5", None], ids=str)
def test_an_impossible_level_is_a_dead_letter_with_its_bytes(adding: TaskQ, redis_client: Any, level: Any) -> None:
    """It fails, so it would be retried: its level would be announced to every worker."""
    keys, data = adding.keys.queue("default"), entry({"p": level})
    redis_client.xadd(keys.stream(DEFAULT_PRIORITY), {"m": data})
    with running_worker(adding):
        assert adding.send_task("add", (1, 2)).get(timeout=20) == 3
        eventually(lambda: adding.dlq.count() == 1, 20)
    (letter,) = adding.dlq.list()
    assert (letter.data, letter.evidence.reason) == (data, "malformed")
    assert redis_client.smembers(keys.levels) == set()
    adding.dlq.purge()


@pytest.mark.parametrize("meta", [{"t": float("nan")}, {"s": -1}, {"x": 2**62}, {"a": -3}, {"w": 10**15}, {"f": -1}])
def test_numbers_that_nobody_of_ours_writes_are_a_dead_letter(
    adding: TaskQ, redis_client: Any, meta: dict[str, Any]
) -> None:
    redis_client.xadd(adding.keys.queue("default").stream(DEFAULT_PRIORITY), {"m": entry(meta)})
    with running_worker(adding):
        assert adding.send_task("add", (1, 2)).get(timeout=20) == 3
        eventually(lambda: adding.dlq.count() == 1, 20)
    adding.dlq.purge()


def test_levels_that_are_none_are_passed_over(adding: TaskQ, redis_client: Any) -> None:
    keys = adding.keys.queue("default")
    redis_client.sadd(keys.levels, "-", "-5", "12", "x", "", "1.5", "9" * 5000, b"\xff", "7")
    sent = adding.send_task("add", (1, 2), priority=7)
    with running_worker(adding):
        assert sent.get(timeout=20) == 3
    assert [queue.queue for queue in adding.queues()] == ["default", "other"]
    redis_client.delete(keys.levels)


@pytest.mark.parametrize("member", [b"", b"hello", b"-x", b"Ahello", b"Zx\ny", b"\xff\x00", b"5"])
def test_a_delayed_member_that_is_none_is_a_dead_letter(adding: TaskQ, redis_client: Any, member: bytes) -> None:
    keys = adding.keys.queue("default")
    redis_client.zadd(keys.delayed, {member: 1})
    delayed = adding.send_task("add", (1, 2), countdown=0.01)
    with running_worker(adding):
        assert delayed.get(timeout=20) == 3
        eventually(lambda: adding.dlq.count() == 1, 20)
    assert redis_client.smembers(keys.levels) == set()
    adding.dlq.purge()


OTHERS = ["renewed", "paused", "delayed", "levels", "revoked", "limited", "lanes"]


@pytest.mark.parametrize("family", [pytest.param("consumers", marks=pytest.mark.leaves_keys), *OTHERS])
@pytest.mark.parametrize("serves", [("default", "other"), ()], ids=["in order", "in turns"])
def test_a_key_of_another_type_leaves_the_other_queue_alone_and_is_seen_when_it_goes(
    adding: TaskQ, redis_client: Any, family: str, serves: tuple[str, ...]
) -> None:
    key = getattr(adding.keys.queue("default"), family)
    redis_client.rpush(key, "of another type")
    with running_worker(adding, queues=serves):
        for _ in range(3):
            assert adding.send_task("other").get(timeout=20) == "done"
        redis_client.delete(key)
        assert adding.send_task("add", (1, 2)).get(timeout=20) == 3


@pytest.mark.parametrize("level", [DEFAULT_PRIORITY, "front"])
def test_a_stream_of_another_type_leaves_the_other_levels_alone(
    adding: TaskQ, redis_client: Any, level: int | str
) -> None:
    key = adding.keys.queue("default").stream(level)
    redis_client.set(key, "of another type")
    with running_worker(adding):
        urgent = adding.send_task("add", (1, 2), priority=8)
        assert urgent.get(timeout=20) == 3
        redis_client.delete(key)
        assert adding.send_task("add", (2, 2)).get(timeout=20) == 4


def test_many_messages_of_an_unknown_task_are_one_line_and_wait_longer_each_time(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(unknown_task_delay=0.01)
    seen: list[str] = []
    app.hooks.listen("unknown_task", lambda queue, task: seen.append(task))
    for n in range(20):
        app.send_task("renamed", (n,))
    app.send_task("forgotten")
    with running_worker(app):
        eventually(lambda: seen.count("renamed") >= 60 and "forgotten" in seen, 20)
    lines = [record.getMessage() for record in caplog.records if "not known" in record.getMessage()]
    assert sorted(line.split("'")[1] for line in lines) == ["forgotten", "renamed"]
    app.purge("default", delayed=True)


def test_an_unknown_task_waits_twice_as_long_each_time_within_bounds() -> None:
    waits, known_for = [], 0
    for _ in range(12):
        waits.append(delay_ms(100, known_for))
        known_for += waits[-1]
    assert waits[:5] == [100, 100, 200, 400, 800]
    assert waits[-1] == 60_000
    assert delay_ms(300_000, 0) == 300_000


def test_names_without_end_share_a_line(caplog: pytest.LogCaptureFixture) -> None:
    unknown = UnknownTasks()
    for n in range(3 * MOST_NAMES):
        unknown.note("q", f"task{n}")
    assert len(caplog.records) == MOST_NAMES + 1
    assert "'other tasks'" in caplog.records[-1].getMessage()
