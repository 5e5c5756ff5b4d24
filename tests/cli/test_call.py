"""``taskq call``: one call of a task, or one for each line of a file."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.process import Proc
from support.wait import eventually

from taskq import BrokerUnavailableError, TaskQ
from taskq.broker.scripts import MAX_PER_CALL
from taskq.cli import main
from taskq.cli.callfile import CallFile
from taskq.cli.signals import uninterrupted
from taskq.embedded import EmbeddedRedis
from taskq.errors import ConfigError, ExitCode
from taskq.values.message import Message, decode

APP = """
from taskq import TaskQ

app = TaskQ("shop")

@app.task(name="add")
def add(x, y=0):
    return x + y
"""

pytestmark = pytest.mark.leaves_keys("no worker takes the messages")

Run = Callable[..., Result]
Lines = Callable[..., Path]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "callshop.py").write_text(APP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "callshop", raising=False)


@pytest.fixture
def run(shop: None, redis_url: str, namespace: str) -> Run:
    """Run ``taskq call`` on the test's namespace."""

    def invoke(*arguments: str, stdin: bytes | None = None, env: dict[str, str] | None = None) -> Result:
        given = ("call", "-A", "callshop:app", "-b", redis_url, "--namespace", namespace, *arguments)
        return CliRunner().invoke(main, given, input=stdin, env=env)

    return invoke


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    """Make a file of lines."""

    def write(*values: object) -> Path:
        file = tmp_path / "calls.jsonl"
        file.write_text("".join(f"{value if isinstance(value, str) else json.dumps(value)}\n" for value in values))
        return file

    return write


@pytest.fixture
def sent(redis_client: Any, namespace: str) -> Callable[..., list[Message]]:
    """The messages in a queue's streams, in their order."""

    def read(queue: str = "default") -> list[Message]:
        streams = [f"{namespace}:{{{queue}}}:stream:{level}" for level in range(10)]
        return [decode(fields[b"m"]) for stream in streams for _, fields in redis_client.xrange(stream)]

    return read


def test_one_call(run: Run, sent: Callable[..., list[Message]]) -> None:
    first = run("add", "-a", "[1]", "-k", '{"y": 2}')
    assert first.exit_code == 0, first.output
    second = json.loads(run("add", "--args", "[3, 4]", "--queue", "other", "--priority", "9", "--json").stdout)
    (one,), (two,) = sent(), sent("other")
    assert first.stdout == f"sent {one.task_id}\n"
    assert (one.task, one.args, one.kwargs) == ("add", [1], {"y": 2})
    assert second == {"task": "add", "task_id": two.task_id, "sent": 1, "dry_run": False}
    assert two.meta is not None
    assert (two.args, two.meta.priority) == ([3, 4], 9)


def test_an_id_is_accepted_once(run: Run, sent: Callable[..., list[Message]]) -> None:
    assert run("add", "-a", "[1]", "--task-id", "order-7").stdout == "sent order-7\n"
    assert run("add", "-a", "[1]", "--task-id", "order-7").stdout == "order-7 was sent before\n"
    assert [message.task_id for message in sent()] == ["order-7"]


def test_later(run: Run, redis_client: Any, namespace: str) -> None:
    assert run("add", "-a", "[1]", "--countdown", "1h", "--expires", "90").exit_code == 0
    assert run("add", "-a", "[1]", "--eta", "2999-01-01T00:00+09:00", "--task-id", "far").exit_code == 0
    assert run("add", "-a", "[1]", "--countdown", "2h", "--task-id", "near").exit_code == 0
    delayed = f"{namespace}:{{default}}:delayed"
    seconds, micros = redis_client.time()
    now = seconds * 1000 + micros // 1000
    dues = [due - now for _, due in redis_client.zrange(delayed, 0, -1, withscores=True)]
    assert len(dues) == 3
    assert 3_500_000 < dues[0] <= 3_600_000
    assert 7_100_000 < dues[1] <= 7_200_000, "counted on Redis's clock, with an id too"
    assert dues[2] > 10**13


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add",), "missing 1 required positional argument: 'x'"),
        (("add", "-k", '{"z": 1}'), "unexpected keyword argument 'z'"),
        (("add", "-a", f"[{2**70}]"), "cannot be serialized"),
        (("add", "-a", "{}"), "--args must be a JSON array"),
        (("add", "-k", "{"), "--kwargs is not JSON"),
        (("add", "-a", "[1]", "--countdown", "soon"), "not a duration"),
        (("add", "-a", "[1]", "--eta", "soon"), "not a time"),
        (("add", "-a", "[1]", "--countdown", "1", "--eta", "2999-01-01"), "countdown or eta, not both"),
        (("add", "-a", "[1]", "--expires", "later"), "not a time"),
        (("add", "-a", "[1]", "--priority", "10"), "priority"),
        (("add", "-a", "[1]", "--queue", "no queue"), "queue"),
        (("add", "-a", "[1]", "--id-prefix", "p"), "goes with --from"),
        (("add", "-a", "[1]", "--from", "-"), "goes without --args"),
        (("add", "--from", "-", "--id-prefix", "x" * 190), "too long"),
        (("add", "--from", "nosuchfile"), "nosuchfile"),
    ],
)
def test_wrong_usage_sends_nothing(run: Run, app: TaskQ, arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments, stdin=b"[1]\n")
    assert result.exit_code == ExitCode.USAGE, result.output
    assert said in result.output
    assert "Traceback" not in result.output
    assert sum(queue.lag + queue.delayed for queue in app.queues()) == 0


def test_no_such_task_and_no_app(run: Run) -> None:
    missing = run("addd", "-a", "[1]")
    assert missing.exit_code == ExitCode.USAGE
    assert "'addd' is not registered" in missing.output
    without = CliRunner().invoke(main, ["call", "add"])
    assert without.exit_code == ExitCode.USAGE
    assert "-A module:app" in without.output


def test_a_call_for_each_line(run: Run, lines: Lines, sent: Callable[..., list[Message]]) -> None:
    file = lines([1], {"x": 2, "y": 3}, "", "  ", [4, 5])
    result = run("add", "--from", str(file), "--queue", "other", "--priority", "7")
    assert (result.exit_code, result.output) == (0, "sent 3\n"), "no bar where nobody looks"
    assert [(message.args, message.kwargs) for message in sent("other")] == [
        ([1], {}),
        ([], {"x": 2, "y": 3}),
        ([4, 5], {}),
    ]
    answer = json.loads(run("add", "--from", "-", "--json", stdin=b"[6]\n[7]").stdout)
    assert answer == {"task": "add", "sent": 2, "sent_before": 0, "dry_run": False}
    assert [message.args for message in sent()] == [[6], [7]]


def test_a_progress_bar_for_a_person(run: Run, lines: Lines) -> None:
    result = run("add", "--from", str(lines(*[[n] for n in range(1500)])), env={"FORCE_COLOR": "1"})
    assert result.stdout == "sent 1500\n"
    assert "sending" in result.stderr


def test_a_dry_run_only_checks(run: Run, lines: Lines, sent: Callable[..., list[Message]]) -> None:
    file = lines([1], [2])
    assert run("add", "--from", str(file), "--dry-run").output == "would send 2\n"
    assert json.loads(run("add", "--from", "-", "--dry-run", "--json", stdin=b"[1]").stdout) == {
        "task": "add",
        "calls": 1,
        "dry_run": True,
    }
    assert run("add", "-a", "[1]", "--dry-run").output == "would send 1\n"
    assert run("add", "--dry-run").exit_code == ExitCode.USAGE
    assert sent() == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[1, 2, 3]", "takes from 1 to 2 positional arguments but 3 were given"),
        ('{"y": 1}', "missing 1 required positional argument"),
        ("7", "a call is a JSON array or object, such as [7, 3]; not a number"),
        ("true", "not true"),
        ("[1", "this is not JSON"),
        (f"[{2**70}]", "cannot be serialized"),
        ("[" * 100_000, "this is not JSON"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_of_a_file_is_sent(
    run: Run, lines: Lines, sent: Callable[..., list[Message]], line: str, said: str
) -> None:
    file = lines(*[[n] for n in range(MAX_PER_CALL)], "", line)
    result = run("add", "--from", str(file))
    assert result.exit_code == ExitCode.USAGE, result.output
    assert f"calls.jsonl, line {MAX_PER_CALL + 2}: " in result.output
    assert said in result.output
    assert sent() == []


def test_of_a_pipe_the_pages_before_a_wrong_line_are_sent(run: Run, sent: Callable[..., list[Message]]) -> None:
    result = run("add", "--from", "-", stdin=b"[1]\n" * (2 * MAX_PER_CALL + 5) + b"\xff\n")
    assert result.exit_code == ExitCode.USAGE
    assert f"stdin, line {2 * MAX_PER_CALL + 6}: this is not JSON" in result.output
    assert f"{2 * MAX_PER_CALL} calls were sent" in result.output
    assert len(sent()) == 2 * MAX_PER_CALL


def test_a_file_that_is_sent_again_by_its_ids(run: Run, lines: Lines, sent: Callable[..., list[Message]]) -> None:
    """Whatever was interrupted: what has arrived is skipped, and the rest is sent."""
    values = [[n] for n in range(MAX_PER_CALL + 500)]
    part = run("add", "--from", str(lines(*values[:300])), "--id-prefix", "coupons", "--priority", "3")
    assert part.output == "sent 300\n"
    whole = run("add", "--from", str(lines(*values)), "--id-prefix", "coupons", "--priority", "3")
    assert whole.exit_code == 0
    assert (whole.stdout, whole.stderr) == (f"sent {MAX_PER_CALL + 200}\n", "300 were sent before\n")
    messages = sent()
    assert [message.args for message in messages] == values
    assert [message.task_id for message in messages] == [f"coupons-{n + 1}" for n in range(len(values))]
    again = json.loads(run("add", "--from", str(lines(*values)), "--id-prefix", "coupons", "--json").stdout)
    assert (again["sent"], again["sent_before"]) == (0, len(values))


def test_memory_holds_a_page_and_no_more(app: TaskQ) -> None:
    add = app.task(name="add")(lambda x: x)
    read: list[int] = []

    def many() -> Iterator[bytes]:
        for n in range(2 * MAX_PER_CALL):
            read.append(n)
            yield b"[1]\n"

    for prefix in (None, "p"):
        calls, ahead = CallFile(add, {}, "lines", prefix), []
        read.clear()
        calls.send(many(), lambda done, ahead=ahead: ahead.append(len(read) - done))  # type: ignore[misc]
        assert calls.sent == 2 * MAX_PER_CALL
        assert ahead == [0, 0]


def test_a_redis_that_goes_away_leaves_a_true_count(
    private_redis: Callable[..., EmbeddedRedis], make_app: Callable[..., TaskQ]
) -> None:
    server = private_redis()
    app = make_app(broker_url=server.url, broker_deadline=0.2)
    calls = CallFile(app.task(name="add")(lambda x: x), {}, "lines")

    def while_it_goes() -> Iterator[bytes]:
        for n in range(3 * MAX_PER_CALL):
            if n == 2 * MAX_PER_CALL:
                server.stop()
            yield b"[1]\n"

    with pytest.raises(BrokerUnavailableError):
        calls.send(while_it_goes())
    assert calls.sent == 2 * MAX_PER_CALL


def test_without_redis(shop: None, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKQ_BROKER_DEADLINE", "0.1")
    command = ["call", "-A", "callshop:app", "-b", "redis://127.0.0.1:1/0", "add", "--from", str(lines([1]))]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "0 calls were sent; the next thousand may or may not have arrived" in result.output


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """A command that another test ran in this process may have left its own handler."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("hears_ctrl_c")
def test_an_interrupt_waits_for_the_page_on_its_way() -> None:
    lived_through: list[int] = []

    def interrupted(times: int) -> None:
        with uninterrupted():
            for n in range(times):
                os.kill(os.getpid(), signal.SIGINT)
                lived_through.append(n + 1)

    interrupted(0)
    with pytest.raises(KeyboardInterrupt):
        interrupted(1)
    assert lived_through == [1]
    with pytest.raises(KeyboardInterrupt):
        interrupted(3)
    assert lived_through == [1, 1], "the second one comes at once"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_says_how_many_were_sent(
    shop: None,
    spawn: Callable[..., Proc],
    tmp_path: Path,
    redis_url: str,
    namespace: str,
    sent: Callable[..., list[Message]],
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    environment = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace}
    command = spawn("-m", "taskq", "call", "-A", "callshop:app", "add", "--from", str(pipe), env=environment)
    with pipe.open("wb") as lines:
        lines.write(b"[1]\n" * (2 * MAX_PER_CALL + 10))
        lines.flush()
        eventually(lambda: len(sent()) == 2 * MAX_PER_CALL, 20)
        command.signal(signal.SIGINT)
        assert command.wait() == ExitCode.INTERRUPTED, command.output()
    assert f"taskq: interrupted; {2 * MAX_PER_CALL} calls were sent" in command.output()
    assert "Traceback" not in command.output()
    assert len(sent()) == 2 * MAX_PER_CALL


def test_settings_are_checked_before_a_line_is_read(app: TaskQ) -> None:
    add = app.task(name="add")(lambda x: x)
    with pytest.raises(ConfigError):
        CallFile(add, {"queue": "no queue"}, "lines")
    with pytest.raises(ConfigError, match="--id-prefix"):
        CallFile(add, {}, "lines", "")
