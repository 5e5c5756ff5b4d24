"""``taskq events`` against a real Redis."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.process import Proc
from support.wait import wait_for_line
from support.worker import run_burst

from taskq import TaskQ
from taskq.cli.events import events
from taskq.errors import ExitCode

Run = Callable[..., Result]


@pytest.fixture
def run(redis_url: str, namespace: str) -> Run:
    """Run a ``taskq events`` command on the test's namespace."""

    def invoke(command: str, *arguments: str, stdin: str = "") -> Result:
        address = ("--broker-url", redis_url, "--namespace", namespace)
        return CliRunner().invoke(events, [command, *address, *arguments], input=stdin)

    return invoke


@pytest.fixture
def orders(app: TaskQ) -> list[Any]:
    """A topic of three events that group ``g`` has read; what the group gets from now on."""
    app.topic("orders", retention="36h", max_bytes=10_000_000)
    seen: list[Any] = []
    app.subscriber("orders", group="g")(lambda event: seen.append(event.payload))
    app.publish_many("orders", [1, {"id": 2}, "three"], key=lambda payload: f"k{payload}"[:3])
    run_burst(app)
    seen.clear()
    return seen


def test_topics_and_groups(run: Run, orders: list[Any]) -> None:
    table = run("topics")
    assert table.exit_code == 0
    assert "orders" in table.output
    assert "36h, 9.5 MiB" in table.output
    (topic,) = json.loads(run("topics", "--json").output)
    assert (topic["total"], topic["kept"], topic["groups"]) == (3, 3, 1)
    assert " g " in run("groups", "orders").output
    (group,) = json.loads(run("groups", "--json").output)
    assert (group["topic"], group["group"], group["read"], group["lag"], group["trimmed"]) == ("orders", "g", 3, 0, 0)


def test_nothing_there(run: Run) -> None:
    assert run("topics").output == "no topics\n"
    assert run("groups").output == "no groups\n"
    missing = run("groups", "orders")
    assert missing.exit_code == ExitCode.USAGE
    assert "neither declared nor known" in missing.output


def test_publish_and_tail(run: Run, app: TaskQ, orders: list[Any]) -> None:
    assert run("publish", "orders", "--key", "k", '{"id": 4}', "5").output == "published 2\n"
    assert run("publish", "orders", "-", stdin='6\n\n"seven"\n').output == "published 2\n"
    lines = [json.loads(line) for line in run("tail", "orders", "-n", "3", "--json").output.splitlines()]
    assert [(line["ordinal"], line["key"], line["payload"]) for line in lines] == [
        (5, "k", 5), (6, None, 6), (7, None, "seven")
    ]  # fmt: skip
    text = run("tail", "orders", "--from", "1h").output.splitlines()
    assert len(text) == 7
    assert text[1].endswith('k{\'  {"id": 2}')
    assert run("tail", "orders", "--from", "2h", "--to", "2001-01-01").output == ""
    run_burst(app)
    assert orders == [{"id": 4}, 5, 6, "seven"]


def test_replay_and_seek(run: Run, app: TaskQ, orders: list[Any]) -> None:
    assert run("replay", "orders", "--group", "g", "--from", "1h").output == "group g will handle 3 events again\n"
    run_burst(app)
    assert len(orders) == 3
    to_past = run("replay", "orders", "--group", "g", "--to", "2001-01-01T00:00+09:00", "--json")
    assert json.loads(to_past.output)["events"] == 0
    assert "3 events to go" in run("seek", "orders", "--group", "g", "--to", "earliest").output
    newest = app.events.end("orders")
    assert "1 events to go" in run("seek", "orders", "--group", "g", "--to", newest).output
    assert "3 events to go" in run("seek", "orders", "--group", "g", "--to", "1h").output
    assert "0 events to go" in run("seek", "orders", "--group", "g", "--to", "latest").output


def test_a_new_group_begins_where_it_is_told_to(run: Run, orders: list[Any]) -> None:
    begun = run("seek", "orders", "--group", "h", "--to", "earliest", "--new", "--json")
    assert json.loads(begun.output) == {"topic": "orders", "group": "h", "position": "0-0", "unread": 3}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("publish", "order", "1"), "'order' is not declared"),
        (("publish", "orders", "{"), "is not JSON"),
        (("replay", "orders", "--group", "g", "--from", "yesterday"), "is not a time"),
        (("replay", "orders", "--group", "g", "--from", "1h", "--to", "2h"), "end must be after start"),
        (("replay", "orders", "--group", "h"), "no group 'h' has begun to read topic 'orders' (known are: g)"),
        (("seek", "orders", "--group", "h", "--to", "latest"), "no group 'h' has begun to read topic 'orders'"),
        (("replay", "orders"), "Missing option '--group'"),
        (("seek", "orders", "--group", "g", "--to", "nowhere"), "is not a time"),
        (("tail", "orders", "--from", "99999999d"), "is not a time"),
        (("tail", "orders", "--from", "0001-01-01T00:00+10:00"), "out of range"),
        (("seek", "orders", "--group", "g", "--to", f"{2**64}-0"), "an event's id looks like"),
        (("seek", "orders", "--group", "a/b", "--to", "latest"), "group must be"),
        (("tail", "order"), "neither declared nor known"),
    ],
)
def test_what_cannot_be_done_says_so(run: Run, orders: list[Any], arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == ExitCode.USAGE
    assert said in done.output


def test_following(spawn: Callable[..., Proc], app: TaskQ, orders: list[Any], redis_url: str, namespace: str) -> None:
    environment = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace}
    process = spawn("-m", "taskq", "events", "tail", "orders", "--follow", "-n", "1", env=environment)
    wait_for_line(process, '"three"$')
    app.publish("orders", "four")
    assert wait_for_line(process, '"four"$')
    run_burst(app)
