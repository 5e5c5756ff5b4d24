"""The demo's processes: started, watched, and always ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from taskq.demo.table import WORKSPACE
from taskq.errors import TaskqError

_STOP_SECONDS = 15.0
_TAIL_LINES = 20


def set_environment(url: str, workspace: Path) -> None:
    """Set the environment of this process and of those that it starts.

    Settings of the user's own app must not reach the demo's.
    """
    for name in [name for name in os.environ if name.startswith("TASKQ_")]:
        del os.environ[name]
    # what the parsed files do is not ours to warn about
    os.environ |= {"TASKQ_BROKER_URL": url, WORKSPACE: str(workspace), "PYTHONWARNINGS": "ignore"}


class DemoError(TaskqError):
    """A process of the demo has ended, or nothing goes on any more."""


@dataclass(frozen=True, slots=True)
class _Child:
    name: str
    process: subprocess.Popen[bytes]
    log: Path


class Processes:
    """``taskq`` commands in processes of their own; a context manager that ends them all.

    Args:
        folder: their working directory, where their logs go too.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[_Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for child in self._children:
            _end(child.process, deadline)

    def start(self, *arguments: str) -> None:
        """Start ``taskq <arguments>``; it is named after the first of them."""
        log = self._folder / f"{arguments[0]}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(  # noqa: S603 - our own module, no shell
                [sys.executable, "-m", "taskq.demo.tethered", *arguments],
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                start_new_session=True,  # Ctrl-C at the terminal is for the demo, which stops them in order
            )
        self._children.append(_Child(arguments[0], process, log))

    def check(self) -> None:
        """Look whether all of them still run.

        Raises:
            DemoError: one does not; the text has the end of its log.
        """
        for child in self._children:
            code = child.process.poll()
            if code is not None:
                raise DemoError(f"the {child.name} process ended with {code}; its log ends with:\n{_tail(child.log)}")


def _end(process: subprocess.Popen[bytes], deadline: float) -> None:
    try:
        process.wait(max(deadline - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        assert process.stdin is not None
        process.stdin.close()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]) or "(nothing)"
