"""``taskq dlq`` against a real Redis."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from taskq import TaskQ
from taskq.broker.keys import Keys
from taskq.cli.dlq import dlq
from taskq.client.dlq import Evidence, pack_evidence
from taskq.errors import ExitCode, UnknownTaskError
from taskq.values.message import WIRE_VERSION, Message, decode, encode

Run = Callable[..., Result]
Bury = Callable[..., str]


@pytest.fixture
def run(redis_url: str, namespace: str) -> Run:
    """Run a ``taskq dlq`` command on the test's namespace."""

    def invoke(command: str, *arguments: str, stdin: str = "") -> Result:
        address = ("--broker-url", redis_url, "--namespace", namespace)
        return CliRunner().invoke(dlq, [command, *address, *arguments], input=stdin)

    return invoke


@pytest.fixture
def bury(namespace: str, redis_client: Any) -> Bury:
    """Put a message into the dead letter queue, as a worker would."""

    def add(task_id: str, task: str = "shop.pay", queue: str = "default", error: str = "no money") -> str:
        keys = Keys(namespace)
        redis_client.sadd(keys.queues, queue)
        message = encode(Message(WIRE_VERSION, task_id, task, [1, "two"], {"three": b"\xff"}))
        evidence = Evidence(
            error_type="ValueError",
            error=error,
            traceback="Traceback:\n  it went wrong",
            reason="failed",
            attempts=4,
            died_at=1_740_830_400_000,
        )
        entry = redis_client.xadd(keys.queue(queue).dead, {"m": message, "i": pack_evidence(evidence)})
        return str(entry.decode())

    return add


@pytest.fixture
def take(namespace: str, redis_client: Any) -> Callable[..., list[str]]:
    """The ids of the messages in a queue, which are removed."""

    def taken(queue: str = "default") -> list[str]:
        stream = Keys(namespace).queue(queue).stream(5)
        entries = redis_client.xrange(stream)
        if entries:
            redis_client.xdel(stream, *(entry for entry, _ in entries))
        return [decode(fields[b"m"]).task_id for _, fields in entries]

    return taken


def test_list(run: Run, bury: Bury) -> None:
    entry = bury("first")
    bury("second", task="shop.ship", queue="ships")
    result = run("list")
    assert result.exit_code == ExitCode.OK
    heading, first, second = result.output.splitlines()
    assert heading.split() == ["id", "queue", "task", "task", "id", "reason", "error", "attempts", "replays", "died"]
    for part in (entry, "default", "shop.pay", "first", "failed", "ValueError: no money", "2025-03-01 12:00:00"):
        assert part in first
    assert "ships" in second


def test_list_chooses(run: Run, bury: Bury) -> None:
    for number in range(3):
        bury(f"pay-{number}")
    bury("ship", task="shop.ship", queue="ships")

    def ids(*arguments: str) -> list[str]:
        return [letter["task_id"] for letter in json.loads(run("list", "--json", *arguments).stdout)]

    assert ids("--queue", "ships") == ["ship"]
    assert ids("--task", "shop.ship") == ["ship"]
    assert ids("--limit", "2") == ["pay-0", "pay-1"]
    assert "2 of 4" in run("list", "--limit", "2").stderr


def test_list_of_nothing(run: Run) -> None:
    assert run("list").output == "no dead letters\n"
    assert json.loads(run("list", "--json").output) == []


def test_show(run: Run, bury: Bury) -> None:
    entry = bury("first")
    for name in ("first", entry):
        result = run("show", name)
        assert result.exit_code == ExitCode.OK
        assert "task:        shop.pay" in result.output
        assert "args:        [1, 'two']" in result.output
        assert "  it went wrong" in result.output
    shown = json.loads(run("show", "first", "--json").output)
    assert shown["kwargs"] == {"three": repr(b"\xff")}
    assert shown["attempts"] == 4


def test_show_of_bytes_that_are_no_message(run: Run, namespace: str, redis_client: Any) -> None:
    keys = Keys(namespace)
    redis_client.sadd(keys.queues, "default")
    entry = redis_client.xadd(keys.queue("default").dead, {"m": b"\x01garbage", "i": b"?"})
    shown = json.loads(run("show", entry.decode(), "--json").output)
    assert (shown["reason"], shown["args"], shown["data"]) == ("malformed", None, b"\x01garbage".hex())
    assert run("list").exit_code == ExitCode.OK


def test_show_of_an_unknown_id(run: Run) -> None:
    result = run("show", "nobody")
    assert result.exit_code == ExitCode.FAILED
    assert result.stderr == "taskq: no dead letter 'nobody'\n"


def test_text_from_outside_cannot_steer_the_terminal(run: Run, bury: Bury) -> None:
    bury("first", error="\x1b]0;owned\x07[red]not markup[/red]")
    for result in (run("list"), run("show", "first")):
        assert "\x1b" not in result.output
        assert "[red]not markup[/red]" in result.output


@pytest.mark.parametrize(
    ("arguments", "expected", "left"),
    [
        (["one"], ["one"], 2),
        (["--queue", "default"], ["one", "two"], 1),
        (["--task", "shop.pay"], ["one", "two"], 1),
        (["--all"], ["one", "two", "ship"], 0),
    ],
    ids=["by id", "by queue", "by task", "all"],
)
def test_replay_puts_back_what_was_chosen(
    run: Run,
    bury: Bury,
    take: Callable[..., list[str]],
    arguments: list[str],
    expected: list[str],
    left: int,
) -> None:
    bury("one")
    bury("two")
    bury("ship", task="shop.ship", queue="ships")
    result = run("replay", *arguments)
    assert (result.exit_code, result.output) == (ExitCode.OK, f"replayed {len(expected)}\n")
    assert take() + take("ships") == expected
    assert len(json.loads(run("list", "--json").output)) == left


def test_replay_of_an_id_that_is_gone(run: Run, bury: Bury, take: Callable[..., list[str]]) -> None:
    bury("one")
    result = run("replay", "one", "nobody")
    assert (result.exit_code, result.stdout) == (ExitCode.FAILED, "")
    assert "no dead letter nobody" in result.stderr
    assert take() == []
    assert run("replay", "one", "nobody", "--skip-missing").stdout == "replayed 1\n"
    assert take() == ["one"]


@pytest.mark.parametrize("command", ["replay", "purge"])
@pytest.mark.parametrize("arguments", [[], ["--all", "one"], ["--all", "--queue", "q"]], ids=str)
def test_all_of_them_must_be_said(run: Run, command: str, arguments: list[str]) -> None:
    assert run(command, *arguments).exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("arguments", "answer", "code", "left"),
    [
        (["--all"], "n\n", ExitCode.FAILED, 2),
        (["--all"], "", ExitCode.FAILED, 2),
        (["--all"], "y\n", ExitCode.OK, 0),
        (["--all", "--yes"], "", ExitCode.OK, 0),
        (["one", "--yes"], "", ExitCode.OK, 1),
    ],
)
def test_purge_asks_first(run: Run, bury: Bury, arguments: list[str], answer: str, code: ExitCode, left: int) -> None:
    bury("one")
    bury("two")
    assert run("purge", *arguments, stdin=answer).exit_code == code
    assert len(json.loads(run("list", "--json").output)) == left


def test_no_redis_is_one_line_without_the_password() -> None:
    url = "redis://:hunter2@127.0.0.1:1/0"
    result = CliRunner().invoke(dlq, ["list", "--broker-url", url], env={"TASKQ_BROKER_DEADLINE": "0.2"})
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert result.stderr.startswith("taskq: ")
    assert len(result.stderr.splitlines()) == 1
    assert "hunter2" not in result.output


def test_a_renamed_task_is_replayed_under_its_new_name(run: Run, bury: Bury, namespace: str, redis_client: Any) -> None:
    for task_id in ("one", "two"):
        bury(task_id, task="shop.old")
    result = run("replay", "--task", "shop.old", "--as", "shop.new")
    assert (result.exit_code, result.stdout) == (0, "replayed 2\n")
    stream = Keys(namespace).queue("default").stream(5)
    messages = [decode(fields[b"m"]) for _, fields in redis_client.xrange(stream)]
    assert [(message.task_id, message.task, message.args) for message in messages] == [
        ("one", "shop.new", [1, "two"]),
        ("two", "shop.new", [1, "two"]),
    ]
    redis_client.delete(stream)


def test_an_app_with_tasks_takes_no_new_name_that_it_does_not_know(app: TaskQ, bury: Bury) -> None:
    app.register(lambda: None, name="shop.new", bind=False, settings={})
    bury("one", task="shop.old")
    with pytest.raises(UnknownTaskError, match=r"did you mean .shop\.new"):
        app.dlq.replay(["one"], new_task="shop.nwe")
    assert app.dlq.count() == 1
    app.dlq.purge()


@pytest.mark.parametrize("command", [("replay", "--dry-run"), ("replay",), ("purge", "--yes")])
def test_a_fingerprint_that_nothing_has_is_an_error(run: Run, bury: Bury, app: TaskQ, command: tuple[str, ...]) -> None:
    bury("one")
    (group,) = app.dlq.groups()
    wrong = group.fingerprint[:-1] + ("0" if group.fingerprint[-1] != "0" else "1") if group.fingerprint else "feed"
    result = run(*command, "--fingerprint", wrong)
    assert (result.exit_code, "no dead letter has the fingerprint" in result.stderr) == (2, True)
    assert app.dlq.count() == 1
    app.dlq.purge()
