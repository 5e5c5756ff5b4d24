"""What Redis refuses of one message ends that message with the reason; its neighbours are settled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.wait import eventually
from support.worker import running_worker

from taskq import Context, TaskFailedError, TaskQ
from taskq.embedded import EmbeddedRedis

MakeApp = Callable[..., TaskQ]
MEGABYTE = 1024 * 1024


@pytest.fixture
def server(private_redis: Callable[..., EmbeddedRedis]) -> EmbeddedRedis:
    return private_redis()


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[Any]:
    from conftest import connect

    with connect(server.url) as found:
        yield found


@pytest.fixture
def small_app(make_app: MakeApp, server: EmbeddedRedis) -> TaskQ:
    app = make_app(broker_url=server.url)

    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="big")
    def big(size: int) -> bytes:
        return b"x" * size

    @app.task(name="fails", max_retries=0)
    def fails() -> None:
        raise ValueError("no")

    @app.task(name="retries", max_retries=3)
    def retries() -> None:
        raise ValueError("no")

    return app


@pytest.mark.parametrize("setting", ["proto-max-bulk-len", "client-query-buffer-limit"])
def test_a_result_that_is_too_big_is_a_dead_letter_and_its_neighbours_are_settled(
    small_app: TaskQ, client: Any, setting: str
) -> None:
    """The one limit is told before the connection is closed, the other just closes it."""
    client.config_set(setting, MEGABYTE)
    with small_app.batch():
        before = [small_app.send_task("add", (n, 1)) for n in range(20)]
        culprits = [small_app.send_task("big", (2 * MEGABYTE,)) for _ in range(2)]
        after = [small_app.send_task("add", (n, 2)) for n in range(20)]
    with running_worker(small_app):
        assert [result.get(timeout=30) for result in before] == [n + 1 for n in range(20)]
        assert [result.get(timeout=30) for result in after] == [n + 2 for n in range(20)]
        for culprit in culprits:
            with pytest.raises(TaskFailedError, match="Redis refused its outcome, SUCCESS"):
                culprit.get(timeout=30)
        assert small_app.send_task("big", (1000,)).get(timeout=30) == b"x" * 1000
    letters = small_app.dlq.list()
    assert {letter.task_id for letter in letters} == {culprit.id for culprit in culprits}
    assert {letter.evidence.error_type for letter in letters} == {"BrokerRefusedError"}
    assert {letter.evidence.attempts for letter in letters} == {1}


def test_a_retry_that_has_no_place_to_wait_is_a_dead_letter(small_app: TaskQ, client: Any) -> None:
    client.set(small_app.keys.queue("default").delayed, "of another type")
    failing, good = small_app.send_task("retries"), small_app.send_task("add", (1, 2))
    with running_worker(small_app):
        assert good.get(timeout=30) == 3
        with pytest.raises(TaskFailedError, match=r"Redis refused its outcome, RETRY: .*WRONGTYPE"):
            failing.get(timeout=30)


def test_without_a_place_for_dead_letters_a_failure_waits_and_others_are_settled(
    small_app: TaskQ, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its own outcome: that is what becomes of it once there is a place."""
    monkeypatch.setattr("taskq.worker.exchange.refusals.TRY_AGAIN", 0.1)
    dead = small_app.keys.queue("default").dead
    client.set(dead, "of another type")
    failing = small_app.send_task("fails")
    with running_worker(small_app):
        for n in range(5):
            assert small_app.send_task("add", (n, 0)).get(timeout=30) == n
        client.delete(dead)
        with pytest.raises(TaskFailedError, match="ValueError"):
            failing.get(timeout=30)
    (letter,) = small_app.dlq.list()
    assert letter.evidence.error == "no"


@pytest.mark.parametrize("family", ["waiting", "lanes", "dead_groups", "levels", "revoked"])
def test_a_key_of_another_type_beside_the_messages_stops_no_settle(small_app: TaskQ, client: Any, family: str) -> None:
    key = getattr(small_app.keys.queue("default"), family)
    with running_worker(small_app):
        assert small_app.send_task("add", (0, 0)).get(timeout=30) == 0
        client.delete(key)
        client.set(key, "of another type")
        kept = {"ignore_result": False}
        results = [small_app.send_task("add", (n, 0), **kept) for n in range(5)] + [
            small_app.send_task("fails", **kept)
        ]
        eventually(lambda: [result.status for result in results] == ["SUCCESS"] * 5 + ["FAILURE"], 30)
        client.delete(key)


def test_the_next_of_a_lane_and_a_result_come_through_without_the_right_to_publish(
    small_app: TaskQ, make_app: MakeApp, server: EmbeddedRedis, client: Any
) -> None:
    """Nothing depends on a published message arriving, so a user who may not publish loses nothing but time."""
    client.execute_command(*("ACL", "SETUSER", "mute", "on", ">pw", "~*", "resetchannels", "+@all", "-publish"))
    ordered = [small_app.send_task("add", (n, 0), ordering_key="one") for n in range(3)]
    app = make_app(broker_url=server.url.replace("redis://", "redis://mute:pw@"))
    app.register(lambda x, y: x + y, name="add", bind=False, settings={})
    with running_worker(app):
        eventually(lambda: [result.status for result in ordered] == ["SUCCESS"] * 3, 30)


def test_a_command_of_a_transaction_that_cannot_be_run_does_not_stop_the_others(small_app: TaskQ, client: Any) -> None:
    @small_app.task(name="commits", bind=True)
    def commits(self: Context) -> str:
        self.tx.execute("SET", "before", 1)
        self.tx.execute("NO SUCH COMMAND", "x")
        self.tx.execute("SUNION")
        self.tx.execute("SET", "after", 1)
        return "done"

    with running_worker(small_app):
        assert small_app.send_task("commits").get(timeout=30) == "done"
    assert client.mget("before", "after") == [b"1", b"1"]


def test_a_command_of_a_transaction_that_is_too_big_fails_its_task_alone(small_app: TaskQ, client: Any) -> None:
    @small_app.task(name="commits", bind=True)
    def commits(self: Context) -> None:
        self.tx.execute("SET", "small", 1)
        self.tx.execute("SET", "big", b"x" * (2 * MEGABYTE))

    client.config_set("proto-max-bulk-len", MEGABYTE)
    commit, good = small_app.send_task("commits"), small_app.send_task("add", (1, 2))
    with running_worker(small_app):
        assert good.get(timeout=30) == 3
        with pytest.raises(TaskFailedError, match="invalid bulk length"):
            commit.get(timeout=30)
    assert client.exists("small", "big") == 0
