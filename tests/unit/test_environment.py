"""Settings from the environment: what is empty is not set, and what nobody reads is said."""

from __future__ import annotations

import dataclasses
import logging

import pytest

from taskq import ConfigError
from taskq.values import environment
from taskq.values.config import Config

NAMES = [f"TASKQ_{field.name.upper()}" for field in dataclasses.fields(Config)]


@pytest.fixture(autouse=True)
def _nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_warned", set())


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_an_empty_variable_is_not_set(text: str) -> None:
    assert Config.build({}, dict.fromkeys([*NAMES, "REDIS_URL"], text)) == Config()


def test_blanks_around_a_value_are_passed_over() -> None:
    given = {"TASKQ_WORKER_CONCURRENCY": " 4 ", "TASKQ_STRICT_DURABILITY": "True ", "REDIS_URL": "redis://there/1\n"}
    config = Config.build({}, given)
    assert (config.worker_concurrency, config.strict_durability, config.broker_url) == (4, True, "redis://there/1")


def test_quotes_that_no_shell_has_taken_away_are_refused() -> None:
    with pytest.raises(ConfigError, match="TASKQ_TIMEZONE must stand without the quotes"):
        Config.build({}, {"TASKQ_TIMEZONE": '"UTC"'})


@pytest.mark.parametrize("path", ["", "  "])
def test_an_empty_path_in_code_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="spool_path must be the path of a file"):
        Config.build({"spool_path": path}, {})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TASKQ_BROKER", "TASKQ_BROKER_URL"),
        ("TASKQ_CONCURRENCY", "TASKQ_WORKER_CONCURRENCY"),
        ("TASKQ_SPOOL", "TASKQ_SPOOL_PATH"),
        ("TASKQ_BROKER_ULR", "TASKQ_BROKER_URL"),
        ("TASKQ_POOL", "TASKQ_WORKER_POOL"),
    ],
)
def test_a_variable_that_nobody_reads_is_said_once_with_what_was_meant(
    caplog: pytest.LogCaptureFixture, name: str, meant: str
) -> None:
    with caplog.at_level(logging.WARNING, "taskq.config"):
        Config.build({}, {name: "x"})
        Config.build({}, {name: "x"})
    assert [record.getMessage() for record in caplog.records] == [
        f"{name} in the environment is not a setting, and is ignored; did you mean {meant}?"
    ]


def test_variables_of_other_parts_and_of_kubernetes_are_not_mistakes(caplog: pytest.LogCaptureFixture) -> None:
    names = ("APP", "LOG_LEVEL", "DASHBOARD_PASSWORD", "SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_6379_TCP_ADDR")
    Config.build({}, {"HOME": "x"} | {f"TASKQ_{name}": "x" for name in names})
    assert not caplog.records
