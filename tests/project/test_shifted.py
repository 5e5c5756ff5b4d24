"""``python -m tests.shifted``: tests under another clock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.process import ROOT, clean_environment
from support.programs import require

SEEN = """
import time
from datetime import datetime, timedelta

def test_clocks(redis_client):
    here = datetime.now()
    assert here.date().isoformat() == "2028-02-29", here
    assert time.tzname == ("KST", "KST")
    seconds, _ = redis_client.time()
    assert abs(seconds - time.time()) < 5
    before = time.monotonic()
    time.sleep(0.05)
    assert 0.04 < time.monotonic() - before < 5
"""


def shifted(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.shifted", *arguments]
    # by the true clock, also where this test runs by another one
    environment = {name: value for name, value in clean_environment(ROOT / "tests").items() if name != "LD_PRELOAD"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)


def test_every_process_has_the_clock_and_the_zone_that_are_asked_for(tmp_path: Path) -> None:
    require("cc")
    test = tmp_path / "test_clocks.py"
    test.write_text(SEEN)
    moment = ("--at", "2028-02-29T12:00", "--tz", "Asia/Seoul")
    own = ("--", "-q", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-p", "conftest", str(test))
    done = shifted(*moment, *own)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 passed" in done.stdout


def test_a_failure_is_told(tmp_path: Path) -> None:
    require("cc")
    test = tmp_path / "test_failing.py"
    test.write_text("def test_that_fails():\n    assert False\n")
    done = shifted("leap-day", "--", "-q", "-c", str(ROOT / "pyproject.toml"), str(test))
    assert done.returncode == 1
    assert "failed: leap-day" in done.stdout


@pytest.mark.parametrize("wrong", [("no-such-moment",), ("--at", "yesterday")])
def test_what_is_not_a_moment_is_refused(wrong: tuple[str, ...]) -> None:
    done = shifted(*wrong)
    assert done.returncode == 2
    assert wrong[-1] in done.stderr
