"""What somebody else wrote into our keys: a worker passes over it, and serves the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from support.wait import eventually
from support.worker import running_worker

from taskq import TaskQ
from taskq.message import DEFAULT_PRIORITY, new_id

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
