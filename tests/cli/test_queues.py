"""``taskq queues`` against a real Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from taskq.cli.output import age
from taskq.cli.queues import queues
from taskq.client.app import TaskQ


@pytest.fixture
def app(redis_url: str, namespace: str) -> Iterator[TaskQ]:
    made = TaskQ("test", redis_url, namespace=namespace)
    yield made
    made.close()


@pytest.fixture
def some_work(app: TaskQ, redis_client: Any) -> Iterator[None]:
    """Two messages in one queue, one for later in another."""
    app.send_task("shop.pay", queue="pay")
    app.send_task("shop.pay", queue="pay")
    app.send_task("shop.ship", queue="ship", countdown=60)
    yield
    redis_client.xtrim(app.keys.queue("pay").stream(5), maxlen=0)
    redis_client.delete(app.keys.queue("ship").delayed)


@pytest.mark.usefixtures("some_work")
def test_json(redis_url: str, namespace: str) -> None:
    arguments = ["--broker-url", redis_url, "--namespace", namespace, "--json"]
    found = {row["queue"]: row for row in json.loads(CliRunner().invoke(queues, arguments).output)}
    assert set(found) == {"default", "pay", "ship"}
    assert (found["pay"]["lag"], found["pay"]["backlog"], found["pay"]["delayed"]) == (2, 2, 0)
    assert found["pay"]["oldest_age"] >= 0
    assert (found["ship"]["lag"], found["ship"]["delayed"]) == (0, 1)
    assert found["ship"]["oldest_age"] is None


@pytest.mark.usefixtures("some_work")
def test_table(redis_url: str, namespace: str) -> None:
    result = CliRunner().invoke(queues, ["--broker-url", redis_url, "--namespace", namespace])
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[0] == ["queue", "lag", "pending", "parked", "delayed", "dead", "oldest", "workers", "state"]
    assert lines[1] == ["default", "0", "0", "0", "0", "0", "-", "0"]
    assert lines[2][:5] == ["pay", "2", "0", "0", "0"]
    assert lines[3] == ["ship", "0", "0", "0", "1", "0", "-", "0"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (0.44, "0.4s"), (59, "59s"), (119, "119s"), (120, "2m"), (7200, "2h"), (200_000, "2d")],
)
def test_ages_have_one_unit(seconds: float, text: str) -> None:
    assert age(seconds) == text
