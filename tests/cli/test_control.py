"""``taskq pause``, ``resume`` and ``purge``: with a broker URL alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from taskq import TaskQ
from taskq.cli import main


@pytest.fixture
def taskq(redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command on the test's namespace."""

    def run(*arguments: str, **options: Any) -> Result:
        monkeypatch.setenv("TASKQ_NAMESPACE", namespace)
        return CliRunner().invoke(main, [arguments[0], "-b", redis_url, *arguments[1:]], **options)

    return run


def test_pause_and_resume(app: TaskQ, taskq: Any) -> None:
    app.pause("emails")
    app.resume("emails")
    assert taskq("pause", "emails").output == "emails: paused\n"
    assert taskq("pause", "emails").output == "emails: was paused before\n"
    assert [line.split()[-1] for line in taskq("queues").output.splitlines() if "emails" in line] == ["paused"]
    answer = json.loads(taskq("resume", "--all", "--json").output)
    assert answer == [
        {"queue": "default", "paused": False, "changed": False},
        {"queue": "emails", "paused": False, "changed": True},
    ]


def test_a_slip_of_the_pen_is_told(app: TaskQ, taskq: Any) -> None:
    result = taskq("pause", "emial")
    assert (result.exit_code, "known are default" in result.output) == (2, True)
    assert taskq("pause", "emial", "--new").exit_code == 0
    assert taskq("resume", "emial").exit_code == 0
    assert taskq("pause").exit_code == 2
    assert taskq("pause", "default", "--all").exit_code == 2


def test_purge_asks_first(app: TaskQ, taskq: Any) -> None:
    results = [app.send_task("pay", (n,), queue="pay") for n in range(3)]
    app.send_task("pay", (9,), queue="pay", countdown=60)
    refused = taskq("purge", "pay", "--delayed", input="n\n")
    assert "Drop 4 messages of pay for good?" in refused.output
    assert (refused.exit_code, app.queues()[1].lag) == (1, 3)
    assert json.loads(taskq("purge", "pay", "--yes", "--json").output) == [{"queue": "pay", "purged": 3}]
    assert [result.status.value for result in results] == ["REVOKED"] * 3
    assert taskq("purge", "pay", "--delayed", input="y\n").output.endswith("pay: purged 1\n")
