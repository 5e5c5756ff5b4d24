"""FIFOs in the commands: shown like queues, not taken for queues of tasks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner
from support.process import Proc

from taskq import TaskQ
from taskq.cli import main
from taskq.client.fifo.received import packed
from taskq.errors import ExitCode
from taskq.observe.doctor import Finding, examine

LONG = 60


@pytest.fixture
def taskq(redis_url: str, namespace: str) -> Callable[..., Any]:
    """Runs a command with ``--json`` on the test's namespace and returns what it prints."""

    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(main, [*arguments, "-b", redis_url, "--namespace", namespace, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


@pytest.fixture
def look(app: TaskQ) -> Callable[[], list[Finding]]:
    """Examines the test's namespace; what is found besides the server itself."""
    return lambda: [each for each in examine(app).findings if not each.check.startswith("server.")]


def test_a_fifo_is_listed_with_its_items_and_consumers(app: TaskQ, taskq: Callable[..., Any]) -> None:
    jobs = app.queue("jobs")
    jobs.put_many([1, 2, 3])
    item = jobs.get(timeout=LONG)
    (shown,) = [queue for queue in taskq("queues") if queue["queue"] == "fifo:jobs"]
    assert (shown["lag"], shown["pending"], shown["workers"]) == (2, 1, 1)
    assert taskq("workers") == [], "a consumer is no worker"
    item.ack()
    assert jobs.purge() == 2


def test_the_doctor_does_not_miss_a_worker_of_a_fifo(app: TaskQ, look: Callable[[], list[Finding]]) -> None:
    jobs = app.queue("jobs")
    jobs.put_many([1, 2])
    assert look() == []
    with jobs.get(timeout=LONG):
        assert look() == []
    assert jobs.purge() == 1


def test_the_doctor_tells_of_an_item_that_waits_for_long(
    app: TaskQ, look: Callable[[], list[Finding]], redis_client: Any
) -> None:
    jobs = app.queue("jobs")
    keys = app.keys.queue("fifo:jobs")
    redis_client.xadd(keys.stream(5), {"m": packed("old")[1]}, id="1000-1")
    redis_client.sadd(app.keys.queues, "fifo:jobs")
    (finding,) = look()
    assert finding.check == "backlog.old"
    assert finding.reason.startswith("FIFO jobs: the oldest of 1 items waits for ")
    assert "app.queue('jobs').get()" in finding.remedy
    assert jobs.purge() == 1


@pytest.mark.parametrize(
    ("queue", "told"),
    [
        ("fifo:jobs", "'fifo:jobs' is a FIFO: no worker reads it, but app.queue('jobs').get() does"),
        ("two words", "a queue's name must be 1 to 100 of A-Z a-z 0-9 _ - . and not 'two words'"),
    ],
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_worker_that_is_pointed_at_what_it_cannot_read_says_so_once(
    spawn: Callable[..., Proc], redis_url: str, namespace: str, tmp_path: Any, queue: str, told: str, workers: str
) -> None:
    (tmp_path / "pointed.py").write_text("from taskq import TaskQ\napp = TaskQ('pointed')\n")
    flags = ["-A", "pointed:app", "-b", redis_url, "--namespace", namespace, "-Q", queue, "-w", workers]
    worker = spawn("-m", "taskq", "worker", *flags)
    assert worker.wait(LONG) == ExitCode.USAGE
    assert worker.output().count(told) == 1
