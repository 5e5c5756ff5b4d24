"""Real processes: started with a clean environment, their output kept in a file, always reaped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""


class Proc:
    """A Python process in a session of its own.

    Args:
        arguments: after the interpreter, such as ``("-m", "taskq", "worker")``.
        output: file that receives standard output and error.
        path: directory with the test's own modules; also the working directory.
        environment: set on top of the cleaned environment.
    """

    def __init__(self, arguments: tuple[str, ...], output: Path, path: Path, environment: Mapping[str, str]) -> None:
        self._output = output
        with output.open("wb") as sink:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=path,
                env=clean_environment(path) | dict(environment),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        return self._process.poll() is None

    def output(self) -> str:
        """Return everything written so far."""
        return self._output.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself, not to its children."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End the process, not its children, as the kernel's out-of-memory killer would; and reap it."""
        self._process.kill()
        self._process.wait()

    def wait(self, timeout: float = 30) -> int:
        """Return the exit status (negative: the signal); fails the test after *timeout* seconds."""
        __tracebackhide__ = True
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {timeout:g} s; the output was:\n{self.output()}")

    def close(self) -> None:
        """Kill whatever is left of the process and of its children in the same session, and reap it."""
        # Also where the process itself is gone: children that it left keep the group, and its number, in use.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def clean_environment(*paths: Path) -> dict[str, str]:
    """Return the environment without taskq's settings, with *paths* and the checkout on PYTHONPATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKQ_")}
    search = [str(path) for path in (*paths, ROOT)] + [kept.get("PYTHONPATH", "")]
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, search)), "PYTHONUNBUFFERED": "1"}
