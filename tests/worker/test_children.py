"""Child processes of a worker: what they share (nothing that the app made at import), and how they end."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.process import Proc
from support.wait import eventually, wait_for_line
from support.worker import running_worker

from taskq import TaskQ, TaskState
from taskq.client.loading import load_app
from taskq.errors import ExitCode
from taskq.worker.process.supervisor import SAME_ORDER
from taskq.worker.running.executors import processes

Spawn = Callable[..., Proc]

TASKS = """
import atexit, multiprocessing, os, pathlib, random, signal, subprocess, sys, threading, time
from taskq import Batch, TaskQ

app = TaskQ("children", {url!r}, namespace={namespace!r}, lease_timeout=2)
here = pathlib.Path({here!r})
imported_in = os.getpid()
drawn_at_import = random.Random(os.urandom(8)).random()
lock = threading.Lock()
lock.acquire()
threading.Thread(target=lambda: (time.sleep(3), lock.release()), daemon=True).start()


def log(line):
    descriptor = os.open(here / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode() + b"\\n")
    os.close(descriptor)


atexit.register(lambda: log(f"hook {{os.getpid()}} {{imported_in}}"))


@app.task(name="state")
def state():
    with lock:
        time.sleep(0.05)
        return [os.getpid(), imported_in, drawn_at_import]


@app.task(name="strange", ignore_result=True)
def strange(how):
    from taskq.worker.running.executors import child

    pack = child.pack_frame
    replaced = {{
        "text": lambda answers: b"hello world, this is not a frame",
        "no answers": lambda answers: pack({{"a": 1}}),
        "unknown number": lambda answers: pack([(answer[0] + 1000, *answer[1:]) for answer in answers]),
        "unknown kind": lambda answers: pack([(*answer[:2], "z", *answer[3:4], b"x", 1, ()) for answer in answers]),
    }}
    child.pack_frame = replaced[how]


@app.task(name="signals")
def signals():
    program = "import signal; print([int(signal.getsignal(n)) for n in (15, 1, 3)], signal.pthread_sigmask(0, []))"
    run = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    interrupt = "import signal; print(signal.getsignal(2) is signal.default_int_handler)"
    return run.stdout + subprocess.run([sys.executable, "-c", interrupt], stdout=subprocess.PIPE, text=True).stdout


@app.task(name="terminated")
def terminated():
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3600,))
    process.start()
    process.terminate()
    process.join(20)
    return process.exitcode


@app.task(name="squares")
def squares():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(abs, [-1, -2, -3])


@app.task(name="fork", max_retries=0)
def fork(how):
    process = os.fork()
    if process == 0:
        if how == "raise":
            raise RuntimeError("only in the copy")
        if how == "exit":
            sys.exit(3)
        return "the copy's"
    return ["the worker's", os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])]


@app.task(name="fork_batch", batch=Batch(size=1))
def fork_batch(items):
    process = os.fork()
    if process == 0:
        return ["the copy's"]
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])]


@app.task(name="afork")
async def afork():
    return fork.function("return")


@app.task(name="die_with_a_fork", max_retries=0)
def die_with_a_fork():
    if os.fork() == 0:
        os.setsid()
        log(f"fork {{os.getpid()}}")
        time.sleep(3600)
    while not (here / "log").exists():
        time.sleep(0.005)
    os._exit(7)


@app.task(name="start", time_limit=1, max_retries=0)
def start():
    subprocess.run(["sh", "-c", f"echo program $$ >> {{here}}/log; exec sleep 3600"])


@app.task(name="start_unlimited")
def start_unlimited():
    subprocess.run(["sh", "-c", f"echo program $$ >> {{here}}/log; exec sleep 3600"])


@app.task(name="close_all", max_retries=0)
def close_all():
    os.closerange(3, 256)
    time.sleep(3600)


@app.task(name="say")
def say():
    print("said by a task")


@app.task(name="hold")
def hold(word):
    log(f"held {{word}}")
    while not (here / "go").exists():
        time.sleep(0.01)
    return word


@app.task(name="echo")
def echo(value):
    return value
"""


class Place:
    """A folder with the app ``children:app``, and what its tasks have logged."""

    def __init__(self, app: TaskQ, here: Path, spawn: Spawn) -> None:
        self.app = app
        self._log = here / "log"
        self._spawn = spawn

    def lines(self, word: str) -> list[list[str]]:
        """The words of the lines that begin with *word*."""
        text = self._log.read_text() if self._log.exists() else ""
        return [line.split() for line in text.splitlines() if line.startswith(word)]

    def worker(self, *options: str, env: dict[str, str] | None = None) -> Proc:
        started = self._spawn("-m", "taskq", "worker", "-A", "children:app", "-c", "2", *options, env=env or {})
        consumers = self.app.keys.queue("default").consumers
        count = 2 if "-w" in options else 1
        eventually(lambda: self.app.sync_broker.execute("ZCARD", consumers) == count, message=started.output)
        return started

    def let_go(self) -> None:
        """Let those go on that hold."""
        self._log.with_name("go").touch()

    def run(self, name: str, *args: Any) -> Any:
        return self.app.tasks[name].delay(*args).get(timeout=30)


@pytest.fixture
def place(
    tmp_path: Path, redis_url: str, namespace: str, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    (tmp_path / "children.py").write_text(TASKS.format(url=redis_url, namespace=namespace, here=str(tmp_path)))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "children", raising=False)
    app = load_app("children:app")
    monkeypatch.delitem(sys.modules, "children")
    yield Place(app, tmp_path, spawn)
    app.dlq.purge()
    app.close()


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


ANY = pytest.mark.parametrize(
    "options", [("-P", "threads"), ("-P", "solo"), ("-P", "processes"), ("-w", "2")], ids=lambda options: options[1]
)


@pytest.mark.parametrize("options", [("-P", "processes"), ("-w", "2", "-c", "1")], ids=["processes", "workers"])
def test_each_child_imports_the_app_itself(place: Place, options: tuple[str, ...]) -> None:
    worker = place.worker(*options)
    results = [place.app.tasks["state"].delay() for _ in range(12)]
    states = [tuple(result.get(timeout=30)) for result in results]
    assert len({drawn for _, _, drawn in states}) == len({pid for pid, _, _ in states}) == 2
    assert all(pid == imported_in for pid, imported_in, _ in states)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_so_does_a_child_for_a_suspect(place: Place, redis_client: Any) -> None:
    result = place.app.tasks["state"].delay()
    stream = place.app.keys.queue("default").stream(5)
    ((entry, fields),) = redis_client.xrange(stream)
    redis_client.xadd(stream, fields | {b"c": b"0"})
    redis_client.xdel(stream, entry)
    worker = place.worker()
    pid, imported_in, _ = result.get(timeout=30)
    assert pid == imported_in != worker.pid
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


@ANY
def test_programs_that_a_task_starts_have_default_signals(place: Place, options: tuple[str, ...]) -> None:
    worker = place.worker(*options)
    assert place.run("signals") == "[0, 0, 0] set()\nTrue\n"
    assert place.run("terminated") == -signal.SIGTERM
    assert place.run("echo", "still here") == "still here"
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert worker.output().count("finishing what runs") == (2 if "-w" in options else 1)


@ANY
def test_a_process_that_a_task_forks_ends_when_it_returns(place: Place, options: tuple[str, ...]) -> None:
    worker = place.worker(*options)
    assert place.run("fork", "return") == ["the worker's", 0]
    assert place.run("fork", "raise") == ["the worker's", 1]
    assert place.run("fork", "exit") == ["the worker's", 3]
    assert place.run("fork_batch") == 0
    assert place.run("afork") == ["the worker's", 0]
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    hooks = [pid for _, pid, _ in place.lines("hook")]
    assert len(hooks) == len(set(hooks)), "hooks ran once for each process"


@ANY
def test_exit_hooks_run_and_printed_lines_are_seen(place: Place, options: tuple[str, ...]) -> None:
    worker = place.worker(*options, env={"PYTHONUNBUFFERED": ""})
    place.run("say")
    wait_for_line(worker, "said by a task")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    hooks = [(pid, imported_in) for _, pid, imported_in in place.lines("hook")]
    expected = {"threads": 1, "solo": 1, "processes": 3, "2": 3}[options[1]]  # the supervisor has imported it too
    assert len(set(hooks)) == len(hooks) == expected
    assert all(pid == imported_in for pid, imported_in in hooks)


@pytest.mark.parametrize("options", [("-P", "threads"), ("-P", "processes")], ids=lambda options: options[1])
def test_a_task_may_use_multiprocessing(place: Place, options: tuple[str, ...]) -> None:
    worker = place.worker(*options)
    assert place.run("squares") == [1, 2, 3]
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_child_whose_fork_lives_on_is_known_to_be_dead(place: Place) -> None:
    worker = place.worker("-P", "processes")
    with pytest.raises(Exception, match="WorkerLostError"):
        place.run("die_with_a_fork")
    assert place.run("echo", 1) == 1
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    for _, pid in place.lines("fork"):
        os.kill(int(pid), signal.SIGKILL)


def test_a_child_that_closes_its_connection_is_ended(place: Place) -> None:
    worker = place.worker("-P", "processes")
    with pytest.raises(Exception, match="WorkerLostError"):
        place.run("close_all")
    assert place.run("echo", 1) == 1
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


STRANGE = ("text", "no answers", "unknown number", "unknown kind")


@pytest.mark.parametrize("how", STRANGE)
def test_a_child_with_a_strange_answer_is_ended_and_what_it_ran_is_charged(place: Place, how: str) -> None:
    worker = place.worker("-P", "processes", "-c", "1")
    results = [place.app.tasks["strange"].delay(how), *(place.app.tasks["echo"].delay(n) for n in range(5))]
    assert [result.get(timeout=30) for result in results[1:]] == list(range(5))
    (letter,) = eventually(lambda: place.app.dlq.list())
    assert (letter.task, letter.evidence.error_type) == ("strange", "WorkerLostError")
    assert "strange answer" in worker.output()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_what_cannot_be_given_to_a_child_fails_and_holds_up_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = processes._packed

    def broken(delivery: Any) -> Any:
        if delivery.message.args == ["bad"]:
            raise OverflowError("too much")
        return packed(delivery)

    monkeypatch.setattr(processes, "_packed", broken)
    echo = place.app.tasks["echo"]
    results = [echo.delay(word) for word in ("bad", "good", "bad")]
    with running_worker(place.app, pool="processes", app_path="children:app"):
        for result in (results[0], results[2]):
            with pytest.raises(Exception, match="OverflowError: too much"):
                result.get(timeout=30)
        assert echo.delay("good").get(timeout=30) == "good"


def test_a_hard_limit_ends_the_programs_of_the_task(place: Place) -> None:
    worker = place.worker("-P", "processes")
    with pytest.raises(Exception, match="TimeLimitExceededError"):
        place.run("start")
    ((_, pid),) = place.lines("program")
    eventually(lambda: not is_alive(int(pid)))
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


@pytest.mark.leaves_keys("what ran is handed back")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_worker_ends_the_programs_of_its_tasks(place: Place, how: signal.Signals) -> None:
    worker = place.worker("-P", "processes", "--shutdown-timeout", "0.1")
    result = place.app.tasks["start_unlimited"].delay()
    eventually(lambda: place.lines("program"))
    ((_, pid),) = place.lines("program")
    worker.signal(how)
    worker.wait()
    eventually(lambda: not is_alive(int(pid)))
    assert result.status in (TaskState.PENDING, TaskState.STARTED)


EACH = [("-P", "threads"), ("-P", "processes"), ("-w", "2", "-c", "1"), ("-w", "2", "-c", "1", "-P", "processes")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("options", EACH, ids=" ".join)
def test_a_signal_to_the_process_group_drains(place: Place, options: tuple[str, ...], number: signal.Signals) -> None:
    worker = place.worker(*options)
    results = [place.app.tasks["hold"].delay(n) for n in range(2)]
    eventually(lambda: len(place.lines("held")) == 2)
    for _ in range(2):  # as timeout does
        os.killpg(worker.pid, number)
    eventually(lambda: worker.output().count("finishing what runs") == (2 if "-w" in options else 1))
    place.let_go()
    assert worker.wait() == 0, worker.output()
    assert [result.get(timeout=30) for result in results] == [0, 1]
    assert len(place.lines("held")) == 2


@pytest.mark.leaves_keys("what ran is handed back")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
@pytest.mark.parametrize("options", EACH, ids=" ".join)
def test_a_later_signal_hands_back_at_once(place: Place, options: tuple[str, ...], number: signal.Signals) -> None:
    worker = place.worker(*options)
    results = [place.app.tasks["hold"].delay(n) for n in range(2)]
    eventually(lambda: len(place.lines("held")) == 2)
    if number == signal.SIGTERM:
        worker.signal(signal.SIGTERM)
        eventually(lambda: worker.output().count("finishing what runs") == (2 if "-w" in options else 1))
        later = time.monotonic() + 2 * SAME_ORDER
        eventually(lambda: time.monotonic() > later)
    worker.signal(number)
    assert worker.wait() == ExitCode.INTERRUPTED, worker.output()
    assert [result.status for result in results] == [TaskState.PENDING] * 2, worker.output()


@pytest.mark.parametrize("options", [("-P", "processes"), ("-w", "2")], ids=" ".join)
def test_without_a_place_for_temporary_files_a_worker_says_so_and_ends(
    spawn: Spawn, tmp_path: Path, redis_url: str, namespace: str, options: tuple[str, ...]
) -> None:
    (tmp_path / "confined.py").write_text(
        "import tempfile\n"
        "from multiprocessing import heap\n"
        "from taskq import TaskQ\n"
        "tempfile.tempdir = '/nowhere'\n"
        "heap.Arena._dir_candidates = []\n"
        f"app = TaskQ('confined', {redis_url!r}, namespace={namespace!r})\n"
    )
    worker = spawn("-m", "taskq", "worker", "-A", "confined:app", *options)
    assert worker.wait() in (ExitCode.FAILED, ExitCode.USAGE)
    assert "/nowhere" in worker.output()
    assert "taskq: " in worker.output().splitlines()[-1]
    assert "Traceback" not in worker.output()
