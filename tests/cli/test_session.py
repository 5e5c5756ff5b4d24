"""What commands share: the app, exit codes, the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hiredis import ReplyError

from taskq.broker.link.replies import broker_error
from taskq.cli import main
from taskq.cli.session import app_options, open_app, reporting_errors
from taskq.client.app import TaskQ
from taskq.errors import BrokerUnavailableError, ConfigError, DeadLetterNotFoundError, ExitCode, UnknownTaskError
from taskq.logs import setup as setup_logging


@pytest.fixture
def quiet_logger() -> Iterator[logging.Logger]:
    """The logger "taskq", put back as it was."""
    logger = logging.getLogger("taskq")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield logger
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.mark.parametrize("name", ["worker", "beat", "metrics", "dashboard", "outbox-relay"])
def test_every_service_takes_the_same_logging_options(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    taken = {option for parameter in command.params for option in parameter.opts}
    assert taken >= {"--log-level", "--log-format", "--log-also"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("NOAUTH Authentication required.", "NOAUTH Authentication required; check user and password in broker_url"),
        ("NOPERM this user has no permissions to run the 'info' command", "taskq doctor says which rights it lacks"),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "Redis answered: WRONGTYPE"),
    ],
)
def test_what_redis_refuses_is_told_in_whole_sentences(answer: str, said: str) -> None:
    told = str(broker_error(ReplyError(answer)))
    assert said in told
    assert ".." not in told


@click.group()
@click.option("-A", "--app")
@click.pass_context
def root(context: click.Context, app: str | None) -> None:
    context.obj = {"app": app}


@root.command()
@app_options
def which(app_path: str | None, broker_url: str | None, namespace: str | None) -> None:
    click.echo(f"{app_path} {broker_url} {namespace}")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["which"], "None None None"),
        (["which", "-A", "shop"], "shop None None"),
        (["-A", "shop", "which"], "shop None None"),
        (["-A", "shop", "which", "-A", "other"], "other None None"),
        (["which", "--broker-url", "redis://h", "--namespace", "n"], "None redis://h n"),
    ],
)
def test_the_app_may_be_named_before_and_after_the_command(arguments: list[str], expected: str) -> None:
    assert CliRunner().invoke(root, arguments).output.strip() == expected


def test_flags_win_over_the_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_of_flags.py").write_text(
        "from taskq.client.app import TaskQ\napp = TaskQ('shop', 'redis://coded:1/0', namespace='coded')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    app = open_app("shop_of_flags:app", "redis://flag:2/0", "flagged")
    assert (app.name, str(app.address.host), app.keys.namespace) == ("shop", "flag", "flagged")


def test_without_an_app_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKQ_NAMESPACE", "from-env")
    app = open_app(None, "redis://h:1/0")
    assert isinstance(app, TaskQ)
    assert app.keys.namespace == "from-env"
    with pytest.raises(ConfigError, match="-A module:app"):
        open_app(None, needs_code=True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("no such queue"), ExitCode.USAGE),
        (BrokerUnavailableError("gone"), ExitCode.UNAVAILABLE),
        (UnknownTaskError("what?"), ExitCode.USAGE),
        (DeadLetterNotFoundError("what?"), ExitCode.FAILED),
    ],
)
def test_errors_become_one_line_and_an_exit_code(
    error: Exception, code: ExitCode, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, reporting_errors():
        raise error
    assert caught.value.code == code
    assert capsys.readouterr().err == f"taskq: {error}\n"


def test_bugs_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError), reporting_errors():
        raise ZeroDivisionError


def test_text_log(quiet_logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("INFO")
    setup_logging("info")  # a second time does not double the lines
    logging.getLogger("taskq.worker").info("hello %d", 5)
    logging.getLogger("taskq.worker").debug("hidden")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("INFO    taskq.worker: hello 5")


def test_json_log(quiet_logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("debug", "json")
    try:
        raise ValueError("of ours\nin two lines")
    except ValueError:
        logging.getLogger("taskq.worker").exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    record = json.loads(line)
    assert (record["level"], record["logger"], record["message"]) == ("error", "taskq.worker", "failed")
    assert "in two lines" in record["traceback"]


def test_the_root_logger_is_left_alone(quiet_logger: logging.Logger) -> None:
    root_logger = logging.getLogger()
    before = (root_logger.handlers[:], root_logger.level)
    setup_logging("debug")
    assert (root_logger.handlers, root_logger.level) == before


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("./typo:app", "Write a module as in an import: -A typo:app"),
        ("..:app", "Write -A module:app"),
        (":app", "Write -A module:app"),
        ("typo.py", "Write a module as in an import: -A typo:app"),
        ("typo/tasks.py:main", "Write a module as in an import: -A typo.tasks:main"),
        ("typo:app", "Write -A module:app"),
    ],
)
def test_a_path_that_is_no_module_is_answered_with_what_to_write(path: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        open_app(path)
