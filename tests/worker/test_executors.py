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
from taskq.client.loading import load_app

TASKS = '''
import asyncio, contextvars, os, signal, time

from taskq import Batch, Context, Reject, SoftTimeLimitExceededError, TaskQ, current_task

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


class Textless(ValueError):
    def __str__(self):
        return 7


class Exiting(ValueError):
    def __str__(self):
        raise SystemExit(3)


class Own(BaseException):
    pass


class Masked(Exception):
    __cause__ = property(lambda self: 1 / 0)
    __traceback__ = property(lambda self: 1 / 0)


def chained(length):
    error = None
    for number in range(length):
        try:
            raise ValueError(number) from error
        except ValueError as found:
            error = found
    return error


def looping():
    one, two = ValueError("one"), ValueError("two")
    one.__context__, two.__context__ = two, one
    return one


def noted():
    error = ValueError("noted")
    error.__notes__ = [object(), "\\udcff"]
    return error


def misnamed():
    kind = type("Misnamed", (Exception,), {{}})
    kind.__qualname__ = "\\ud800\\n" + "x" * 5000
    return kind("misnamed")


def nested():
    error = ValueError("leaf")
    for _ in range(2000):
        error = ExceptionGroup("nested", [error])
    return error


ODD = {{
    "unreadable": Unreadable,
    "textless": Textless,
    "exiting": Exiting,
    "surrogates": lambda: ValueError("\\udcff"),
    "long": lambda: ValueError("y" * 3_000_000),
    "chained": lambda: chained(20_000),
    "looping": looping,
    "noted": noted,
    "misnamed": misnamed,
    "nested": nested,
    "wide": lambda: ExceptionGroup("wide", [ValueError(n) for n in range(20_000)]),
    "masked": Masked,
    "exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "generator": GeneratorExit,
    "own": Own,
    "cancelled": asyncio.CancelledError,
    "stop": StopIteration,
}}


@app.task(name="odd", max_retries=0)
{maybe_async}def odd(how):
    raise ODD[how]()


@app.task(name="odd_batch", max_retries=0, batch=Batch(size=2, wait=0.01))
{maybe_async}def odd_batch(items):
    raise ODD[items[0].args[0]]()


class Unreliable(dict):
    def get(self, *args):
        raise SystemExit(3)


@app.task(name="unreliable_batch", max_retries=0, batch=Batch(size=2, wait=0.01))
{maybe_async}def unreliable_batch(items):
    return Unreliable()


@app.task(name="spin", time_limit=0.01, max_retries=0)
{maybe_async}def spin(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        {maybe_await}


@app.task(name="spin_softly", soft_time_limit=0.01, time_limit=0.0101, max_retries=0)
{maybe_async}def spin_softly(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        {maybe_await}


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


@app.task(name="contextual_batch", batch=Batch(size=1, wait=0.01))
{maybe_async}def contextual_batch(items):
    before = mark.get()
    mark.set("dirty")
    return [before for _ in items]


@app.task(name="own_loop")
def own_loop():
    async def inside():
        return "ran"

    return asyncio.run(inside())


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
    # a name of its own: this process has imported those of other tests
    module = f"pool_under_test_{namespace}_{next(_numbers)}"
    log = tmp_path / "log.txt"
    text = TASKS.format(
        url=redis_url,
        namespace=namespace,
        log=str(log),
        maybe_async="async " if kind == "coroutines" else "",
        maybe_await="await asyncio.sleep(0)" if kind == "coroutines" else "pass",
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


ODD = [
    *("unreadable", "textless", "exiting", "surrogates", "long", "chained", "looping", "noted", "misnamed", "nested"),
    *("wide", "masked", "exit", "interrupt", "generator", "own", "cancelled", "stop"),
]


def test_whatever_is_raised_ends_the_attempt_and_gives_the_slot_back(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "taskq.task")
    with pool.worker(concurrency=1) as running:
        results = {how: pool.send("odd", how) for how in ODD}
        kinds = {how: _error_of(result) for how, result in results.items()}
        batches = [pool.send("odd_batch", how) for how in ODD]
        assert {result.status for result in batches if _error_of(result)} == {TaskState.FAILURE}
        assert pool.run("echo") == [[], {}]
        eventually(lambda: running.worker._fetcher.held() == 0)
    assert all(kinds.values())
    assert len(pool.app.dlq.list(limit=100)) == 2 * len(ODD)
    assert kinds["own"] == "Own"
    assert "\\ud800" in kinds["misnamed"]


def test_a_batch_whose_answer_cannot_be_read_fails(pool: Pool) -> None:
    with pool.worker():
        with pytest.raises(TaskFailedError, match="SystemExit"):
            pool.run("unreliable_batch")
        assert pool.run("echo") == [[], {}]


@pytest.mark.parametrize("name", ["spin", "spin_softly"])
def test_a_limit_that_strikes_in_the_last_instructions_leaves_an_outcome(pool: Pool, name: str) -> None:
    """Runs end around the moment of their limit: whichever comes first, each has an outcome, and so have the next."""
    with pool.worker(concurrency=1) as running:
        count = 10 if pool.kind == "processes" else 60  # a child that was killed has to be started again
        results = pool.app.tasks[name].delay_many([(0.0095 + n % 10 * 0.0001,) for n in range(count)])
        ends = {_error_of(result, timeout=60) for result in results}
        assert pool.run("echo") == [[], {}]
        eventually(lambda: running.worker._fetcher.held() == 0)
    assert ends <= {"", "TimeLimitExceededError", "SoftTimeLimitExceededError"}


def _error_of(result: Any, timeout: float = 20) -> str:
    """The type of the error with which it ended; empty for a success."""
    try:
        result.get(timeout=timeout)
    except TaskFailedError as error:
        return error.error_type
    return ""


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


def test_a_context_variable_of_one_run_is_not_seen_by_the_next(pool: Pool) -> None:
    with pool.worker(concurrency=1):
        results = [pool.send("contextual") for _ in range(20)]
        assert {result.get(timeout=20)[0] for result in results} == {"clean"}
        assert pool.run("contextual")[0] == "clean"
        assert {pool.run("contextual_batch") for _ in range(3)} == {"clean"}


def test_a_task_may_run_an_event_loop_of_its_own(pool: Pool) -> None:
    with pool.worker():
        assert pool.run("own_loop") == "ran"


def test_an_unserialisable_result_is_a_failure_and_not_run_again(pool: Pool) -> None:
    with pool.worker(), pytest.raises(TaskFailedError, match="SerializationError: the result of strange"):
        pool.run("strange")
    (letter,) = pool.app.dlq.list()
    assert (letter.evidence.attempts, letter.evidence.reason) == (1, "failed")


def test_soft_time_limit_is_raised_inside(pool: Pool) -> None:
    with pool.worker():
        with pytest.raises(TaskFailedError, match=r"the task ran into its soft time limit of 0\.1 s"):
            pool.run("soft")
        assert pool.run("cleanup") == "cleaned up"
        assert pool.run("echo") == [[], {}]


def test_hard_time_limit_ends_the_attempt(pool: Pool) -> None:
    with pool.worker():
        with pytest.raises(TaskFailedError, match=r"the task ran into its time limit of 0\.1 s") as caught:
            pool.run("hard")
        assert caught.value.error_type == "TimeLimitExceededError"
        assert pool.run("echo") == [[], {}]


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


@processes
def test_a_child_leaves_no_timer_of_a_limit_behind(pool: Pool) -> None:
    with pool.worker() as running:
        call = pool.app.tasks["echo"].options(time_limit=3600)
        results = [call.delay(number) for number in range(50)]
        assert [result.get(timeout=20) for result in results] == [[[number], {}] for number in range(50)]
        eventually(lambda: not any(each.timers for each in running.worker._sync._children))  # type: ignore[attr-defined]


@pytest.mark.parametrize("pool", ["coroutines"], indirect=True)
def test_a_task_that_others_cancel_before_its_first_line_gives_its_slot_back(pool: Pool) -> None:
    with running_worker(pool.app, async_concurrency=2) as running:
        executor = running.worker._async
        submit = executor.submit

        def cancelling(deliveries: Any) -> None:
            submit(deliveries)
            for task in list(executor._running.values()):  # type: ignore[attr-defined]
                task.cancel()

        executor.submit = cancelling  # type: ignore[method-assign]
        results = [pool.app.tasks["boom"].delay() for _ in range(2)]
        assert {_error_of(result) for result in results} == {"WorkerLostError"}
        executor.submit = submit  # type: ignore[method-assign]
        assert pool.run("echo") == [[], {}]
