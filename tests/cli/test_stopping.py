"""How commands end when they are told to: services with 0, finite work with 130, none with a traceback."""

from __future__ import annotations

import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.process import Proc
from support.wait import eventually, wait_for_line

from taskq.broker.keys import Keys
from taskq.errors import ExitCode

Spawn = Callable[..., Proc]

SHOP = """
from taskq import TaskQ

app = TaskQ("shop")
"""
MORTAL = """
import pathlib
from taskq import TaskQ, every
from taskq.beat import beat

app = TaskQ("shop")

@app.periodic(every(0.2))
@app.task
def tick(): ...

look = beat.Beat.tick

def tick_until_told(self, now=None):
    if pathlib.Path("die").exists():
        pathlib.Path("die").rename("dead")
        raise SystemExit("what no look survives")
    return look(self, now)

beat.Beat.tick = tick_until_told
"""


@pytest.fixture
def environment(redis_url: str, namespace: str, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "mortal.py").write_text(MORTAL)
    return {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_dashboard_that_is_told_to_stop_ends_in_order(
    spawn: Spawn, environment: dict[str, str], number: signal.Signals
) -> None:
    dashboard = spawn("-m", "taskq", "dashboard", "--port", "0", env=environment)
    url = wait_for_line(dashboard, r"on (http://127\.0\.0\.1:\d+)", timeout=30)[1]
    eventually(lambda: status(url) == 200, timeout=30)
    dashboard.signal(number)
    assert dashboard.wait() == ExitCode.OK
    assert "Traceback" not in dashboard.output()


def test_ctrl_c_ends_finite_work_with_a_code_of_its_own(spawn: Spawn, redis_url: str, redis_client: Any) -> None:
    bench = spawn("-m", "taskq", "bench", "-b", redis_url, "--messages", "5000000", "--yes")
    eventually(lambda: list(redis_client.scan_iter("taskq-bench-*", count=1000)), timeout=30)
    bench.signal(signal.SIGINT)
    assert bench.wait(60) == ExitCode.INTERRUPTED
    assert bench.output() == "taskq: interrupted\n"
    assert not list(redis_client.scan_iter("taskq-bench-*", count=1000))


def test_ctrl_c_while_workers_start_leaves_no_traceback(
    spawn: Spawn, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text('import pathlib\npathlib.Path("begun").touch()\n' + "import asyncio\n" * 3 + SHOP)
    workers = spawn("-m", "taskq", "worker", "-A", "slow:app", "-w", "2", env=environment)
    eventually(lambda: (tmp_path / "begun").exists(), timeout=30)
    os.killpg(workers.pid, signal.SIGINT)
    assert workers.wait() in (ExitCode.OK, ExitCode.INTERRUPTED)
    assert "Traceback" not in workers.output()


@pytest.mark.leaves_keys("a beat that dies does not take its leave")
def test_a_worker_whose_beat_dies_stops_with_an_error_so_that_it_is_started_again(
    spawn: Spawn, environment: dict[str, str], tmp_path: Path, namespace: str, redis_client: Any
) -> None:
    arguments = ("-m", "taskq", "worker", "-A", "mortal:app", "-B", "--health-port", "0")
    alone = spawn(*arguments, env=environment)
    url = wait_for_line(alone, r"health on (http://127\.0\.0\.1:\d+)", timeout=30)[1]
    eventually(lambda: status(f"{url}/ready") == 200, timeout=30)
    (tmp_path / "die").touch()
    assert alone.wait(30) == ExitCode.FAILED
    assert "the beat of this worker has died" in alone.output()

    several = spawn(*arguments, "-w", "2", env=environment)
    url = wait_for_line(several, r"health on (http://127\.0\.0\.1:\d+)", timeout=30)[1]
    eventually(lambda: status(f"{url}/ready") == 200, timeout=30)  # before that, SIGTERM ends it at once
    wait_for_line(several, "fired mortal.tick@", timeout=30)
    (tmp_path / "die").touch()
    wait_for_line(several, "worker process 0 ended with exit code 1; starting it again", timeout=30)
    said = several.output()
    eventually(lambda: "fired mortal.tick@" in several.output()[len(said) :], timeout=30)
    several.signal(signal.SIGTERM)
    assert several.wait(40) == ExitCode.OK
    redis_client.delete(Keys(namespace).queue("default").stream(5))


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
