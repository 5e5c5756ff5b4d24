"""The ``taskq`` command as the first process of a container, and as a user without a name."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

FIRST = ["unshare", "--user", "--map-root-user", "--fork", "--pid", "--mount-proc"]
NAMELESS = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]


def run(way: list[str], code: str) -> subprocess.CompletedProcess[str]:
    """Run Python *code* in a namespace."""
    try:
        subprocess.run([*way, "true"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine gives no namespaces to its users")
    environ = {name: value for name, value in os.environ.items() if name not in ("HOME", "USER", "LOGNAME")}
    command = [*way, sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ)


AS_FIRST = """
import os, pathlib, signal, subprocess, sys, time
from taskq.cli.init import stand_apart

assert os.getpid() == 1
stand_apart()
assert os.getpid() != 1

def orphans():
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if parent == "1" and path.parent.name != str(os.getpid()):
            found.append(state)
    return found

for _ in range(3):
    subprocess.run(["sh", "-c", "sleep 0.05 & exit 0"], check=True)
limit = time.monotonic() + 30
while orphans() and time.monotonic() < limit:
    time.sleep(0.01)
assert not orphans(), orphans()
"""

TOLD_TO_END = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
os.kill(1, signal.SIGTERM)
while True:
    time.sleep(0.01)
"""


def test_process_1_reaps_orphans_passes_signals_on_and_ends_as_its_child_does() -> None:
    done = run(FIRST, AS_FIRST + TOLD_TO_END)
    assert (done.returncode, done.stderr) == (7, "")


def test_when_the_child_is_killed_process_1_says_so_as_a_shell_does() -> None:
    done = run(FIRST, AS_FIRST + "os.kill(os.getpid(), signal.SIGKILL)")
    assert (done.returncode, done.stderr) == (128 + 9, "")


def test_a_user_without_a_name_and_without_a_home_can_do_everything() -> None:
    done = run(
        NAMELESS,
        """
        import os, pathlib, tempfile
        from taskq import TaskQ
        from taskq.client.audit import this_user
        from taskq.embedded import EmbeddedRedis

        assert os.getuid() == 12345 and "HOME" not in os.environ
        assert this_user().startswith("12345@")
        with EmbeddedRedis() as server, tempfile.TemporaryDirectory() as folder:
            app = TaskQ("nameless", broker_url=server.url, spool_path=f"{folder}/spool.db")
            job = app.task(name="job")(print)
            job.delay(1)
            app.audit.record(None, "looked", "default")
            assert app.audit.read()[0].actor == this_user()
            app.close()
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")
