"""``taskq top``: what keys mean, what fits on a screen, and the whole of it in a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from support.process import clean_environment
from support.wait import eventually
from support.worker import running_worker

from taskq import TaskQ
from taskq.broker.views.inspect import QueueStats
from taskq.cli import main
from taskq.cli.top.screen import draw
from taskq.cli.top.state import Action, Do, Snapshot, State

WIDTH, HEIGHT = 80, 24


def stats(name: str, **counts: Any) -> QueueStats:
    values = {"lag": 0, "pending": 0, "delayed": 0, "dead": 0, "oldest_age": None, "workers": 1}
    return QueueStats(name, **(values | counts))


@pytest.fixture
def state() -> State:
    made = State()
    made.show(Snapshot([stats("a"), stats("b", paused=True, dead=3), stats("c")], at=1.0))
    return made


def test_keys_choose_a_queue_and_act_on_it(state: State) -> None:
    assert state.press("p") == Action(Do.PAUSE, "a")
    assert [state.press(key) for key in ("up", "down", "x")] == [None] * 3
    assert state.press("p") == Action(Do.RESUME, "b")
    assert state.press("r") is None
    assert state.press("n") is None, "only a yes is a yes"
    assert state.message == "nothing done"
    state.press("r")
    assert state.press("y") == Action(Do.REPLAY, "b")
    state.press("end")
    state.press("r")
    assert (state.question, state.message) == (None, "no dead letters to replay")
    state.press("tab")
    assert state.panel == "workers"
    assert state.press("q") == Action(Do.QUIT)
    assert State().press("p") is None


def test_the_selection_stays_on_its_queue(state: State) -> None:
    state.press("down")
    state.show(Snapshot([stats(name) for name in ("a", "aa", "b", "c")]))
    assert state.queue is not None
    assert state.queue.queue == "b"
    state.show(Snapshot(trouble="Redis is away"))
    assert len(state.snapshot.queues) == 4, "the last figures stay on the screen"
    state.show(Snapshot([stats("a")]))
    assert state.queue.queue == "a"
    state.show(Snapshot([]))
    assert state.queue is None


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (200, 60)])
def test_it_fits_the_terminal(size: tuple[int, int]) -> None:
    from rich.console import Console

    width, height = size
    state = State()
    state.show(Snapshot([stats(f"queue-{n:03}\x1b[31m", lag=10**9, oldest_age=1e6) for n in range(300)]))
    state.press("end")
    console = Console(width=width, height=height, force_terminal=True, legacy_windows=False)
    lines = console.render_lines(draw(state, "redis://localhost:6379/0 taskq", width, height), pad=False)
    assert len(lines) <= height
    assert max(sum(segment.cell_length for segment in line) for line in lines) <= width
    text = "".join(segment.text for line in lines for segment in line)
    assert ("queue-299" in text) == (width >= 80)
    assert "\x1b[31m" not in text


def test_without_a_terminal_it_says_what_to_use(redis_url: str) -> None:
    result = CliRunner().invoke(main, ["top", "-b", redis_url])
    assert result.exit_code == 2
    assert "taskq queues --watch" in result.output


class Terminal:
    """A process on a terminal of its own, and what is on its screen."""

    def __init__(self, *command: str) -> None:
        import pyte

        self._fd, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
        environment = clean_environment() | {"TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)
        self._screen = pyte.Screen(WIDTH, HEIGHT)
        self._stream = pyte.ByteStream(self._screen)

    def text(self) -> str:
        """The screen now."""
        with contextlib.suppress(OSError):  # the process has ended
            while select.select([self._fd], [], [], 0)[0]:
                data = os.read(self._fd, 65536)
                self._stream.feed(data)
                if not data:
                    break
        return "\n".join(self._screen.display)

    def shows(self, *parts: str) -> None:
        """Wait until all *parts* are on the screen."""
        eventually(lambda: all(part in self.text() for part in parts), timeout=20, message=self.text)

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def wait(self) -> int:
        """Its exit code."""
        eventually(lambda: self.text() and self.process.poll() is not None, timeout=20, message=self.text)
        return self.process.wait()

    def close(self) -> None:
        """End the process and give the terminal back."""
        self.process.kill()
        self.process.wait()
        os.close(self._fd)


@pytest.fixture
def terminal(redis_url: str, namespace: str) -> Iterator[Terminal]:
    made = Terminal("-m", "taskq", "top", "-b", redis_url, "--namespace", namespace, "--every", "0.2")
    yield made
    made.close()


def test_in_a_terminal(app: TaskQ, terminal: Terminal) -> None:
    go = threading.Event()

    @app.task(name="shop.pay", queue="pay", max_retries=0)
    def pay(fails: bool) -> None:
        if fails:
            raise ValueError("declined")
        go.wait(30)

    try:
        with running_worker(app, queues=["pay"], concurrency=1):
            doomed = pay.delay(True)
            doomed.get(timeout=30, propagate=False)
            running = pay.delay(False)
            terminal.shows("pay", "shop.pay", running.id[:12], "1/1 busy", "q quit")
            terminal.press("\x1b[B")  # down: "default" comes first
            terminal.press("p")
            terminal.shows("pay: paused")
            assert app.queues()[1].paused
            waiting = pay.delay(False)
            terminal.press("p")
            terminal.shows("pay: resumed")
            terminal.press("r")
            terminal.shows("replay 1 dead letters of pay? y/n")
            terminal.press("y")
            terminal.shows("pay: replayed 1 dead letters")
            terminal.press("\t")
            terminal.shows("memory")
            go.set()
            waiting.get(timeout=30)
            running.get(timeout=30)
            eventually(lambda: app.dlq.count() == 1)
        terminal.press("q")
        assert terminal.wait() == 0
    finally:
        go.set()
    app.dlq.purge()
