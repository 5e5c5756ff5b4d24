"""``taskq demo``, as a user runs it: every message is accounted for, and nothing outlives it."""

from __future__ import annotations

import ast
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support.process import Proc
from support.programs import missing, server_binaries
from support.wait import eventually, wait_for_line

from taskq.demo.source import Counts, count, package_of, python_files
from taskq.demo.table import PackageRow, Table

SOURCE = b"""
import os
from sys import path

class A:
    import re
    def one(self):
        async def two():
            return lambda: 1

match path:
    case []:
        def three(): ...
try:
    pass
except ValueError:
    import json
else:
    class B: ...
finally:
    def four(): ...
"""


def tree(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Three files that parse, one of them large, and one that does not."""
    folder = tmp_path / "sources"
    (folder / "package").mkdir(parents=True)
    tree(folder, good="import os\n", bad="x = = 1\n")
    tree(folder / "package", large="def f(): ...\n" * 2000, empty="")
    return folder


@pytest.fixture
def run_demo(spawn: Callable[..., Proc]) -> Callable[..., Proc]:
    """Start ``taskq demo``; needs a Redis server program."""
    if not server_binaries():
        missing("no Redis server found")
    return lambda *arguments: spawn("-m", "taskq", "demo", *arguments)


def processes_of(demo: Proc) -> list[str]:
    """The demo's own processes that run now; each carries the demo's directory in its environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment, command = (folder / "environ").read_bytes(), (folder / "cmdline").read_bytes()
        except OSError:  # another user's, or gone
            continue
        if (mark := _mark(demo)) and mark in environment:
            found.append(command.replace(b"\0", b" ").decode())
    return found


def _mark(demo: Proc) -> bytes:
    match = re.search(r"^Redis .* on port (\d+)", demo.output(), re.MULTILINE)
    return f"TASKQ_BROKER_URL=redis://127.0.0.1:{match[1]}/0".encode() if match else b""


def test_every_message_is_accounted_for(run_demo: Callable[..., Proc], sources: Path) -> None:
    demo = run_demo("--path", str(sources))
    assert demo.wait(60) == 0, demo.output()
    output = demo.output()
    assert "sent 5 = succeeded 4 + dead 1  ok" in output
    assert "2 cannot be parsed: each was tried 3 times" in output
    assert "repaired broken.py and replayed it: SUCCESS" in output
    assert re.search(r"^ +package +2 +2,000 +2,000 +0 +0", output, re.MULTILINE), output


@pytest.mark.slow
def test_the_standard_library(run_demo: Callable[..., Proc]) -> None:
    demo = run_demo()
    assert demo.wait(100) == 0, demo.output()
    match = re.search(r"sent (\d+) = succeeded (\d+) \+ dead (\d+)  ok", demo.output())
    assert match, demo.output()
    sent, succeeded, dead = map(int, match.groups())
    assert sent == succeeded + dead > 1000


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)],
    ids=["interrupt", "terminate", "kill"],
)
def test_nothing_outlives_it(run_demo: Callable[..., Proc], number: signal.Signals, status: int) -> None:
    demo = run_demo()
    wait_for_line(demo, "^sent ", timeout=20)
    assert eventually(lambda: len(processes_of(demo)) > 2, message="worker and beat should run")
    finished = "= succeeded" in demo.output()  # before the signal, on a busy machine: then there is nothing to end
    demo.signal(number)
    assert demo.wait(30) == (0 if finished else status)
    eventually(lambda: not processes_of(demo), timeout=20, message=lambda: f"still there: {processes_of(demo)}")


def test_a_folder_without_python_files_is_refused(run_demo: Callable[..., Proc], tmp_path: Path) -> None:
    demo = run_demo("--path", str(tmp_path))
    assert demo.wait() == 2
    assert "no Python files" in demo.output()


def test_settings_of_the_users_app_do_not_reach_it(spawn: Callable[..., Proc], sources: Path) -> None:
    if not server_binaries():
        missing("no Redis server found")
    env = {"TASKQ_BROKER_URL": "no url", "TASKQ_NAMESPACE": "mine", "TASKQ_TASK_IGNORE_RESULT": "yes"}
    demo = spawn("-m", "taskq", "demo", "--path", str(sources), env=env)
    assert demo.wait(60) == 0, demo.output()


def test_count_finds_what_a_walk_of_the_whole_tree_finds() -> None:
    nodes = list(ast.walk(ast.parse(SOURCE)))
    functions = sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes)
    classes = sum(isinstance(node, ast.ClassDef) for node in nodes)
    imports = sum(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes)
    assert count(SOURCE) == Counts(SOURCE.count(b"\n"), functions, classes, imports) == Counts(21, 4, 2, 4)


def test_python_files_leaves_out_what_is_not_the_projects_own(tmp_path: Path) -> None:
    for folder in (".venv", "__pycache__", "site-packages", "a/b"):
        (tmp_path / folder).mkdir(parents=True)
        tree(tmp_path / folder, x="")
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nowhere")
    (tmp_path / "x.txt").touch()
    tree(tmp_path, x="")
    assert python_files(tmp_path) == [tmp_path / "a" / "b" / "x.py", tmp_path / "x.py"]
    assert [package_of(file, tmp_path) for file in python_files(tmp_path)] == ["a", "."]


def test_a_row_written_twice_counts_once(tmp_path: Path) -> None:
    table = Table(tmp_path)
    table.create()
    for _ in range(2):
        table.put("a.py", "p", Counts(1, 2, 3, 4))
    table.put("b.py", "p", Counts(10, 20, 30, 40))
    assert table.rows() == table.summarise() == table.summarise() == 2
    assert table.summary() == [PackageRow("p", 2, 11, 22, 33, 44)]
    assert table.runs() == 2
