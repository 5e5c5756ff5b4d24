"""``taskq schedule`` against a real Redis, with no more than its address."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from taskq import TaskQ, cron, every
from taskq.cli.schedule import schedule
from taskq.errors import ExitCode

Run = Callable[..., Result]


@pytest.fixture
def run(redis_url: str, namespace: str) -> Run:
    """Run a ``taskq schedule`` command on the test's namespace."""

    def invoke(command: str, *arguments: str) -> Result:
        address = ("--broker-url", redis_url, "--namespace", namespace)
        return CliRunner().invoke(schedule, [command, *address, *arguments])

    return invoke


@pytest.fixture
def nightly(app: TaskQ) -> None:
    app.schedules.add("nightly", cron("0 2 * * *", tz="Asia/Seoul"), "shop.clean_up")


@pytest.mark.usefixtures("nightly")
def test_list(run: Run) -> None:
    found = json.loads(run("list", "--json").stdout)
    assert found["beats"] == []
    (one,) = found["schedules"]
    assert (one["name"], one["task"], one["source"], one["has_beat"]) == ("nightly", "shop.clean_up", "runtime", False)
    lines = run("list").stdout.splitlines()
    assert lines[0].split()[:4] == ["name", "when", "task", "queue"]
    assert "no beat" in lines[1]


def test_an_empty_list(run: Run) -> None:
    assert run("list").stdout == "no schedules\n"
    assert run("next").stdout == "no fire times to come\n"


@pytest.mark.usefixtures("nightly")
def test_next_tells_local_time_and_utc(run: Run) -> None:
    rows = json.loads(run("next", "nightly", "-n", "3", "--json").stdout)
    assert len(rows) == 3
    assert all("T02:00:00+09:00" in row["local"] and "T17:00:00.000+00:00" in row["utc"] for row in rows)
    lines = run("next").stdout.splitlines()
    assert len(lines) == 6
    assert "02:00:00 KST" in lines[1]
    assert "17:00:00" in lines[1]


@pytest.mark.usefixtures("nightly")
def test_pause_and_resume(run: Run) -> None:
    assert [run(command, "nightly").stdout for command in ("pause", "pause", "resume", "resume")] == [
        "nightly: paused\n",
        "nightly: was paused before\n",
        "nightly: resumed\n",
        "nightly: was not paused\n",
    ]
    assert json.loads(run("pause", "nightly", "--json").stdout) == {"name": "nightly", "changed": True}
    assert "paused" in run("next", "nightly").stdout


@pytest.mark.usefixtures("nightly")
def test_run_backfill_and_history(run: Run, app: TaskQ, redis_client: Any) -> None:
    assert run("run", "nightly").stdout.startswith("sent nightly@now:")
    assert run("backfill", "nightly", "2025-03-01", "2025-03-04").stdout == "sent 3\n"
    (fire,) = json.loads(run("history", "nightly", "--json").stdout)
    assert fire["outcome"] == "fired"
    assert "fired" in run("history", "nightly").stdout
    stream = app.keys.queue("default").stream(5)
    assert redis_client.xlen(stream) == 4
    redis_client.xtrim(stream, maxlen=0)


def test_add_show_and_remove(run: Run, app: TaskQ) -> None:
    answer = run("add", "poll", "--every", "30s", "--task", "shop.poll", "--args", '["eu"]', "--overlap", "skip")
    assert answer.stdout.startswith("poll: every 30s, next ")
    assert app.schedules.get("poll").args == ["eu"]
    assert run("add", "poll", "--cron", "0 2 * * *", "--tz", "Europe/Paris", "--task", "shop.poll").exit_code == 0
    assert run("add", "once", "--at", "2099-01-01T00:00+09:00", "--task", "shop.poll", "--json").exit_code == 0
    assert "every 30s" not in run("show", "poll").stdout
    assert json.loads(run("show", "poll", "--json").stdout)["zone"] == "Europe/Paris"
    assert [run("remove", name, "--yes").stdout for name in ("poll", "once")] == ["poll: removed\n", "once: removed\n"]
    assert app.schedules.list() == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--cron", "61 * * * *"], "minute '61'"),
        (["--cron", "0 2 * * *", "--tz", "Asia/Soul"], "did you mean 'Asia/Seoul'"),
        (["--every", "soon"], "every"),
        (["--at", "tomorrow"], "not a time"),
        (["--at", "2020-01-01"], "no fire time after now"),
        ([], "when? Give one of"),
        (["--every", "5", "--cron", "* * * * *"], "when? Give one of"),
        (["--every", "5", "--tz", "UTC"], "--tz goes with --cron"),
        (["--every", "5", "--args", "{}"], "not JSON array"),
        (["--every", "5", "--kwargs", "nonsense"], "not JSON object"),
        (["--every", "5", "--overlap", "maybe"], "allow, skip, queue, cancel"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_explained_and_nothing_written(
    run: Run, namespace: str, redis_client: Any, arguments: list[str], text: str
) -> None:
    answer = run("add", "job", "--task", "shop.job", *arguments)
    assert answer.exit_code == ExitCode.USAGE
    assert text in answer.output
    assert list(redis_client.scan_iter(match=f"{namespace}:*")) == []


def test_an_unknown_schedule(run: Run) -> None:
    for command in ("show", "pause", "run", "history", "next"):
        answer = run(command, "unknown")
        assert (answer.exit_code, "no schedule 'unknown'" in answer.output) == (ExitCode.USAGE, True), command


def test_what_only_the_code_has_is_shown_with_the_app(
    run: Run, app: TaskQ, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "schedule_cli_shop.py").write_text(
        "from taskq import TaskQ, every\n"
        "app = TaskQ('shop', beat_schedule={'other': {'task': 'shop.other', 'schedule': 60}})\n"
        "app.periodic(every(30))(app.task(name='tick')(lambda: None))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = json.loads(run("list", "-A", "schedule_cli_shop:app", "--json").stdout)["schedules"]
    assert [(one["name"], one["source"]) for one in found] == [("other", "config"), ("tick", "code")]
    assert run("pause", "tick", "-A", "schedule_cli_shop:app").stdout == "tick: paused\n"
    assert app.schedules.get("tick").paused


def test_unusual_names_print_harmlessly(run: Run, app: TaskQ) -> None:
    app.schedules.add("naïve €", every(10), "shop.job")
    assert "naïve €" in run("list").stdout


def test_a_task_that_the_app_does_not_have_is_not_scheduled(
    run: Run, app: TaskQ, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mistyped_shop.py").write_text(
        'from taskq import TaskQ\napp = TaskQ("shop")\n@app.task(name="shop.clean_up")\ndef clean_up() -> None: ...\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    answer = run("add", "nightly", "-A", "mistyped_shop:app", "--every", "1h", "--task", "shop.claen_up")
    assert (answer.exit_code, "did you mean 'shop.clean_up'" in answer.output) == (2, True)
    assert app.schedules.list() == []
