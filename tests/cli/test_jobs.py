"""``taskq jobs``, against a job that has run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.worker import running_worker

from taskq.cli import main
from taskq.client.loading import load_app
from taskq.errors import ExitCode

APP = """
from taskq import TaskQ, cron

app = TaskQ("shop")
app.topic("orders")

@app.batch_job(cron("0 1 * * *"), source="orders", name="settle")
def settle(window):
    return sum(len(page) for page in window.pages())
"""


@pytest.mark.leaves_keys("event streams keep their events")
def test_jobs_are_listed_shown_and_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str, namespace: str
) -> None:
    (tmp_path / "jobshop.py").write_text(APP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TASKQ_BROKER_URL", redis_url)
    monkeypatch.setenv("TASKQ_NAMESPACE", namespace)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(main, ["jobs", *arguments, "-A", "jobshop:app"])
        assert result.exit_code == 0, result.output
        return result.output

    assert "never" in run("list")
    app = load_app("jobshop:app")
    app.publish_many("orders", range(7))
    with running_worker(app):
        assert app.result(run("run", "settle").strip()).get(timeout=30) == 7
    shown = json.loads(run("show", "settle", "--json"))
    assert (shown["status"], shown["done"], shown["total"], shown["percent"], shown["result"]) == ("done", 7, 7, 100, 7)
    assert "settle" in run("list")
    assert "position:" in run("show", "settle")
    missing = CliRunner().invoke(main, ["jobs", "show", "-A", "jobshop:app", "nothing"])
    assert missing.exit_code == ExitCode.USAGE
    assert "settle" in missing.output
    app.close()
