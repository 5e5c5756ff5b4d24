"""What every pool promises, asked of each of them; what only some can do is asked of those."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.wait import eventually
from support.worker import RunningWorker, running_worker

from taskq import TaskFailedError, TaskQ, TaskState
from taskq.loading import load_app

TASKS = '''
import asyncio, contextvars, os, signal, time

from taskq import Context, Reject, SoftTimeLimitExceededError, TaskQ, current_task

app = TaskQ("pool", {url!r}, namespace={namespace!r}, lease_timeout=2)
mark = contextvars.ContextVar("mark", default="clean")
options = dict(retry_backoff=0.01)


def log(line):
    """Effects are counted outside Redis: one atomic append each."""
    descriptor = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode() + b"\\n")
    os.close(descriptor)


@app.task(name="echo", **options)
{maybe_async}def echo(*args, **kwargs):
    return [list(args), kwargs]


@app.task(name="boom", max_retries=0)
{maybe_async}def boom():
    raise ValueError("file " + chr(0xDCFF))


class Unreadable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@app.task(name="unreadable", max_retries=0)
{maybe_async}def unreadable():
    raise Unreadable


@app.task(name="third_time", **options)
{maybe_async}def third_time():
    if current_task().attempt < 3:
        raise OSError("not yet")
    return current_task().attempt


@app.task(name="leave", max_retries=0)
{maybe_async}def leave():
    raise SystemExit(3)


@app.task(name="bound", bind=True)
{maybe_async}def bound(self, x):
    return [self.id, self.attempt, x]


@app.task(name="contextual")
{maybe_async}def contextual():
    before = mark.get()
    mark.set("dirty")
    return [before, current_task().id]


@app.task(name="strange")
{maybe_async}def strange():
    return object()


@app.task(name="soft", soft_time_limit=0.1, max_retries=0)
{maybe_async}def soft():
    for _ in range(3000):
        {nap}


@app.task(name="cleanup", soft_time_limit=0.1, max_retries=0)
{maybe_async}def cleanup():
    try:
        for _ in range(3000):
            {nap}
    except {soft_error}:
        return "cleaned up"


@app.task(name="hard", time_limit=0.1, max_retries=0)
{maybe_async}def hard():
    for _ in range(3000):
        {nap}


@app.task(name="deaf", soft_time_limit=0.05, time_limit=0.3, max_retries=0)
{maybe_async}def deaf():
    try:
        for _ in range(3000):
            {nap}
    except {soft_error}:
        for _ in range(3000):
            {nap}


@app.task(name="note")
{maybe_async}def note(text):
    log(text)
    return text


@app.task(name="die")
def die(how):
    log("die")
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="die_unrepeated", delivery="at_most_once")
def die_unrepeated():
    log("die")
    os._exit(7)


@app.task(name="die_once")
def die_once():
    if current_task().deliveries == 1:
        os._exit(7)
    return [current_task().deliveries, current_task().attempt]


@app.task(name="sleep")
def sleep(seconds):
    log("sleeping")
    time.sleep(seconds)
    log("slept")
'''

Start = Callable[..., Any]


class Pool:
    """A module with an app, and the worker that runs it in one kind of pool."""

    def __init__(self, app: TaskQ, path: str, kind: str, log: Path) -> None:
        self.app = app
        self.kind = kind
        self._path = path
        self._log = log

    def lines(self) -> list[str]:
        """What tasks have written."""
        return self._log.read_text().split() if self._log.exists() else []

    @contextmanager
    def worker(self, concurrency: int = 2) -> Iterator[RunningWorker]:
        pool = "threads" if self.kind == "coroutines" else self.kind
        with running_worker(self.app, concurrency=concurrency, pool=pool, app_path=self._path) as worker:
            yield worker

    def send(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self.app.tasks[name].delay(*args, **kwargs)

    def run(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self.send(name, *args, **kwargs).get(timeout=20)


_numbers = iter(range(10**9))


def make_pool(kind: str, tmp_path: Path, redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Pool:
    # a name of its own: the pool's fork server imports it once and keeps it for the whole run
    module = f"pool_under_test_{namespace}_{next(_numbers)}"
    log = tmp_path / "log.txt"
    text = TASKS.format(
        url=redis_url,
        namespace=namespace,
        log=str(log),
        maybe_async="async " if kind == "coroutines" else "",
        soft_error="asyncio.CancelledError" if kind == "coroutines" else "SoftTimeLimitExceededError",
        nap="await asyncio.sleep(0.01)" if kind == "coroutines" else "time.sleep(0.01)",
    )
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    app = load_app(f"{module}:app")
    monkeypatch.delitem(sys.modules, module)
    return Pool(app, f"{module}:app", kind, log)


@pytest.fixture(params=["threads", "solo", "processes", "coroutines"])
def pool(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_url: str,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Pool]:
    made = make_pool(request.param, tmp_path, redis_url, namespace, monkeypatch)
    yield made
    made.app.dlq.purge()
    made.app.close()


# solo has no time limits: nothing can interrupt its only thread
with_limits = pytest.mark.parametrize("pool", ["threads", "processes", "coroutines"], indirect=True)


def test_arguments_and_results_travel(pool: Pool) -> None:
    with pool.worker():
        assert pool.run("echo", 1, "two", [3.0], key={"a": None}, raw=b"\xff") == [
            [1, "two", [3.0]],
            {"key": {"a": None}, "raw": b"\xff"},
        ]


def test_many_messages_all_end(pool: Pool) -> None:
    with pool.worker():
        results = pool.app.tasks["note"].delay_many([(str(n),) for n in range(300)])
        assert [result.get(timeout=20) for result in results] == [str(n) for n in range(300)]
    assert sorted(pool.lines(), key=int) == [str(n) for n in range(300)]


def test_an_exception_is_a_failure_with_its_traceback(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "taskq.task")  # pytest-xdist cannot carry what is no UTF-8
    with pool.worker():
        result = pool.send("boom")
        with pytest.raises(TaskFailedError, match=r"ValueError: file \\udcff"):
            result.get(timeout=20)
    assert "raise ValueError(" in str(result.traceback)
    (letter,) = pool.app.dlq.list()
    assert letter.evidence.error_type == "ValueError"


def test_an_exception_without_readable_text_is_a_failure_too(pool: Pool) -> None:
    with pool.worker():
        with pytest.raises(TaskFailedError, match="Unreadable"):
            pool.run("unreadable")
        assert pool.run("echo") == [[], {}]


def test_system_exit_ends_the_attempt_not_the_worker(pool: Pool) -> None:
    with pool.worker():
        with pytest.raises(TaskFailedError, match="SystemExit"):
            pool.run("leave")
        assert pool.run("echo") == [[], {}]


def test_failed_attempts_are_retried(pool: Pool) -> None:
    with pool.worker():
        assert pool.run("third_time") == 3


def test_bound_tasks_get_their_context(pool: Pool) -> None:
    with pool.worker():
        result = pool.send("bound", 7)
        assert result.get(timeout=20) == [result.id, 1, 7]


def test_each_run_knows_its_own_message(pool: Pool) -> None:
    with pool.worker():
        results = [pool.send("contextual") for _ in range(20)]
        told = [result.get(timeout=20) for result in results]
    assert [task_id for _, task_id in told] == [result.id for result in results]
    if pool.kind == "coroutines":
        assert {before for before, _ in told} == {"clean"}


def test_an_unserialisable_result_is_a_failure_and_not_run_again(pool: Pool) -> None:
    with pool.worker(), pytest.raises(TaskFailedError, match="SerializationError: the result of strange"):
        pool.run("strange")
    (letter,) = pool.app.dlq.list()
    assert (letter.evidence.attempts, letter.evidence.reason) == (1, "failed")


@with_limits
def test_soft_time_limit_is_raised_inside(pool: Pool) -> None:
    with pool.worker():
        with pytest.raises(TaskFailedError, match="SoftTimeLimitExceededError"):
            pool.run("soft")
        assert pool.run("cleanup") == "cleaned up"
        assert pool.run("echo") == [[], {}]


@with_limits
def test_hard_time_limit_ends_the_attempt(pool: Pool) -> None:
    with pool.worker():
        with pytest.raises(TaskFailedError, match="TimeLimitExceededError") as caught:
            pool.run("hard")
        assert caught.value.error_type == "TimeLimitExceededError"
        assert pool.run("echo") == [[], {}]


@with_limits
def test_hard_time_limit_follows_a_soft_one_that_was_ignored(pool: Pool) -> None:
    with pool.worker():
        with pytest.raises(TaskFailedError) as caught:
            pool.run("deaf")
        assert caught.value.error_type == "TimeLimitExceededError"


processes = pytest.mark.parametrize("pool", ["processes"], indirect=True)


@processes
@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_message_that_kills_its_process_is_contained(pool: Pool, how: str) -> None:
    with pool.worker():
        poison = pool.send("die", how)
        neighbours = pool.app.tasks["note"].delay_many([(f"n{n}",) for n in range(50)])
        with pytest.raises(TaskFailedError, match="WorkerLostError"):
            poison.get(timeout=30)
        assert [result.get(timeout=20) for result in neighbours] == [f"n{n}" for n in range(50)]
    (letter,) = pool.app.dlq.list()
    assert (letter.task, letter.evidence.reason, letter.evidence.crashes) == ("die", "crashed", 3)
    assert letter.evidence.exit_code == {"exit": 7, "kill": -9}[how]
    assert letter.evidence.rss_bytes > 1_000_000
    assert letter.evidence.started_at > 0
    assert pool.lines().count("die") == 3
    # a neighbour whose answer was still in the dead child runs again, uncharged
    assert {line for line in pool.lines() if line != "die"} == {f"n{n}" for n in range(50)}


@processes
def test_a_crash_is_a_delivery_and_not_an_attempt(pool: Pool) -> None:
    with pool.worker():
        assert pool.run("die_once") == [2, 1]


@processes
def test_what_runs_at_most_once_and_kills_its_process_is_a_dead_letter(pool: Pool) -> None:
    with pool.worker():
        neighbours = pool.app.tasks["note"].delay_many([(f"n{n}",) for n in range(20)])
        poison = [pool.send("die_unrepeated") for _ in range(3)]
        for result in poison:
            with pytest.raises(TaskFailedError, match="at_most_once"):
                result.get(timeout=30)
        assert [result.get(timeout=20) for result in neighbours] == [f"n{n}" for n in range(20)]
        assert pool.run("echo") == [[], {}]
    assert {(letter.evidence.reason, letter.evidence.exit_code) for letter in pool.app.dlq.list()} == {("crashed", 7)}
    assert pool.lines().count("die") == 3


@processes
def test_a_revoked_message_has_its_process_killed(pool: Pool) -> None:
    with pool.worker():
        result = pool.send("sleep", 3600)
        eventually(lambda: pool.lines() == ["sleeping"])
        result.revoke()
        eventually(lambda: result.status is TaskState.REVOKED and result.ready(), timeout=20)
        assert pool.run("echo") == [[], {}]
    assert pool.lines() == ["sleeping"]
