"""Real processes, killed, stopped and paused while they work; what ran is counted outside Redis."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.process import Proc
from support.wait import eventually, wait_for_line

from taskq import TaskQ
from taskq.broker.views.survey import read_queue
from taskq.client.loading import load_app
from taskq.embedded import EmbeddedRedis

APP = """
import os, time

from taskq import TaskQ, current_task

app = TaskQ("shop", lease_timeout={lease})
effects = os.open({effects!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def effect(line):
    os.write(effects, (line + "\\n").encode())


@app.task(name="work", ignore_result=True)
def work(n):
    effect(f"{{n}}")


@app.task(name="slow", retry_backoff=0.01)
def slow(n, seconds):
    effect(f"begin {{n}}")
    time.sleep(seconds)
    effect(f"end {{n}} {{os.getpid()}}")
    return os.getpid()


@app.task(name="poison", ignore_result=True)
def poison():
    os._exit(9)


@app.task(name="flaky", retry_backoff=0.05, ignore_result=True)
def flaky(n):
    effect(f"{{n}}")
    if current_task().attempt == 1:
        raise OSError("once")
"""


class Shop:
    """An app in a module of its own, its workers as processes, and the file that its tasks write to."""

    def __init__(self, directory: Path, url: str, namespace: str, spawn: Callable[..., Proc], lease: float) -> None:
        self._effects = directory / "effects.txt"
        self._spawn = spawn
        self._environment = {"TASKQ_BROKER_URL": url, "TASKQ_NAMESPACE": namespace}
        (directory / "shop_app.py").write_text(APP.format(lease=lease, effects=str(self._effects)))
        self.app: TaskQ = load_app("shop_app:app")
        self.app.reconfigure(broker_url=url, namespace=namespace)

    def start(self, *flags: str) -> Proc:
        """A worker process that may still be starting."""
        return self._spawn("-m", "taskq", "worker", "-A", "shop_app:app", *flags, env=self._environment)

    def worker(self, *flags: str) -> Proc:
        """A worker process that has begun to fetch."""
        process = self.start(*flags)
        wait_for_line(process, "pool:")
        eventually(lambda: process.running() and self.consumers(process), timeout=20, message=process.output)
        return process

    def consumers(self, process: Proc | None = None) -> list[str]:
        """The names under which workers (or that process) hold a lease."""
        names = self.app.sync_broker.execute("ZRANGE", self.app.keys.queue("default").consumers, 0, -1)
        return [name.decode() for name in names if process is None or f":{process.pid}:".encode() in name]

    def effects(self) -> list[str]:
        return self._effects.read_text().splitlines() if self._effects.exists() else []

    def send(self, name: str, calls: list[tuple[Any, ...]]) -> list[Any]:
        return self.app.tasks[name].delay_many(calls)

    def drained(self) -> bool:
        """Nothing queued, delivered or delayed."""
        stats = read_queue(self.app.sync_broker.execute, self.app.keys.queue("default")).stats
        return not stats.backlog and not stats.delayed

    def stop(self, process: Proc) -> None:
        """SIGTERM, and the exit code of a good end."""
        process.signal(signal.SIGTERM)
        assert process.wait() == 0, process.output()


@pytest.fixture
def open_shop(
    tmp_path: Path, spawn: Callable[..., Proc], namespace: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Shop]]:
    opened: list[Shop] = []
    monkeypatch.syspath_prepend(str(tmp_path))

    def start(url: str, lease: float = 1) -> Shop:
        opened.append(Shop(tmp_path, url, namespace, spawn, lease))
        return opened[-1]

    yield start
    sys.modules.pop("shop_app", None)
    for shop in opened:
        shop.app.close()


@pytest.fixture
def shop(open_shop: Callable[..., Shop], redis_url: str) -> Shop:
    return open_shop(redis_url)


def test_a_worker_killed_among_5000_tasks_loses_none(shop: Shop) -> None:
    count = 5000
    shop.send("work", [(n,) for n in range(count)])
    first = shop.worker("-c", "2")
    eventually(lambda: len(shop.effects()) > 500, timeout=20)
    first.kill()
    done_before = Counter(shop.effects())
    second = shop.worker("-c", "2")
    eventually(shop.drained, timeout=20)
    ran = Counter(shop.effects())
    assert set(ran) == {str(n) for n in range(count)}, "every accepted task has run"
    twice = {n for n, times in ran.items() if times > 1}
    assert all(times <= 2 for times in ran.values())
    assert twice <= set(done_before), "only what the dead worker had begun and not settled runs again"
    shop.stop(second)
    assert shop.app.dlq.count() == 0


def test_a_worker_killed_again_and_again_still_loses_none(shop: Shop) -> None:
    """With retries under way: the delayed set and the streams must agree."""
    count = 600
    shop.send("flaky", [(n,) for n in range(count)])
    for kill_after in (100, 400):
        worker = shop.worker("-c", "4")
        eventually(lambda after=kill_after: len(shop.effects()) > after, timeout=20)
        worker.kill()
    last = shop.worker()
    eventually(shop.drained, timeout=20)
    ran = Counter(shop.effects())
    assert set(ran) == {str(n) for n in range(count)}
    assert min(ran.values()) >= 2, "each failed once and was run again"
    shop.stop(last)
    assert shop.app.dlq.count() == 0


def test_a_message_that_kills_its_worker_is_contained_and_its_neighbours_are_not_charged(shop: Shop) -> None:
    """Threads share their worker's fate: who was only held, or ran beside it, must not be buried with it."""
    shop.send("work", [(n,) for n in range(100)])
    shop.send("poison", [()])
    shop.send("slow", [(n, 0.05) for n in range(100, 140)])
    codes = []
    while not codes or (codes[-1] and len(codes) < 12):
        codes.append(shop.start("--burst", "-c", "4").wait())
    assert codes[-1] == 0, f"exit codes of the workers: {codes}"
    assert shop.drained()
    assert [letter.task for letter in shop.app.dlq.list()] == ["poison"]
    assert shop.app.dlq.purge() == 1
    assert {line.split()[-1] for line in shop.effects() if line.startswith("begin")} == {
        str(n) for n in range(100, 140)
    }


def test_sigterm_under_load_loses_none_and_repeats_none(shop: Shop) -> None:
    count = 3000
    shop.send("work", [(n,) for n in range(count)])
    for stop_after in (300, 900, 1500):
        worker = shop.worker("-c", "4")
        eventually(lambda after=stop_after: len(shop.effects()) > after, timeout=20)
        shop.stop(worker)
    last = shop.worker("--burst")
    assert last.wait() == 0, last.output()
    assert Counter(shop.effects()) == Counter(str(n) for n in range(count))


def test_sigterm_waits_for_what_runs(shop: Shop) -> None:
    (result,) = shop.send("slow", [(1, 0.7)])
    worker = shop.worker()
    eventually(lambda: shop.effects() == ["begin 1"], timeout=20)
    shop.stop(worker)
    assert shop.effects() == ["begin 1", f"end 1 {worker.pid}"]
    assert result.get(timeout=30) == worker.pid


def test_a_second_sigterm_hands_back_at_once(shop: Shop) -> None:
    (result,) = shop.send("slow", [(1, 3600)])
    worker = shop.worker()
    eventually(lambda: shop.effects() == ["begin 1"], timeout=20)
    worker.signal(signal.SIGTERM)
    wait_for_line(worker, "SIGTERM")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 130, worker.output()
    assert result.status == "PENDING"
    (data,) = shop.app.sync_broker.execute("XRANGE", shop.app.keys.queue("default").stream("front"), "-", "+")
    assert data[1][2:] in ([], [b"c", b"0"]), "handing back charges nothing"
    shop.app.sync_broker.execute("DEL", shop.app.keys.queue("default").stream("front"))


@pytest.mark.parametrize("processes", [1, 2], ids=["one process", "supervised"])
def test_redis_killed_under_load_and_restarted_loses_none(
    open_shop: Callable[..., Shop], private_redis: Callable[..., EmbeddedRedis], tmp_path: Path, processes: int
) -> None:
    server = private_redis(tmp_path / "data", appendfsync="always")
    shop = open_shop(server.url)
    worker = shop.start("-w", str(processes), "-c", "2")
    eventually(lambda: len(shop.consumers()) == processes, timeout=20, message=worker.output)
    count = 1500
    shop.send("work", [(n,) for n in range(count)])
    for crash_after in (200, 700):
        eventually(lambda after=crash_after: len(shop.effects()) > after, timeout=20)
        server.kill()
        server.restart()
    eventually(shop.drained, timeout=20)
    assert set(shop.effects()) == {str(n) for n in range(count)}
    late = shop.app.tasks["slow"].delay(1, 0)
    assert late.get(timeout=20) > 0, "the worker is as before"
    shop.stop(worker)


def test_a_worker_paused_beyond_its_lease_commits_nothing_of_what_was_taken_over(shop: Shop) -> None:
    first = shop.worker("-c", "1")
    (result,) = shop.send("slow", [(1, 1.5)])
    eventually(lambda: shop.effects() == ["begin 1"], timeout=20)
    first.signal(signal.SIGSTOP)
    second = shop.worker("-c", "1")
    committed = result.get(timeout=20)
    assert committed != first.pid, "taken over and completed by the second worker"
    stored = shop.app.sync_broker.execute("GET", shop.app.keys.queue("default").result(result.id))
    first.signal(signal.SIGCONT)
    eventually(lambda: f"end 1 {first.pid}" in shop.effects(), timeout=20)
    wait_for_line(first, "lease was lost")
    (after,) = shop.send("slow", [(2, 0)])
    after.get(timeout=20)
    shop.stop(first)
    shop.stop(second)
    assert shop.app.sync_broker.execute("GET", shop.app.keys.queue("default").result(result.id)) == stored
    assert result.get(timeout=30) == committed
    assert Counter(line.split()[0] + line.split()[1] for line in shop.effects() if line.split()[1] == "1") == {
        "begin1": 2,
        "end1": 2,
    }
    assert shop.drained()


def test_an_idle_worker_paused_beyond_its_lease_loses_nothing(shop: Shop) -> None:
    """Its read stays blocked at the server, and takes what comes next."""
    first = shop.worker("-c", "1")
    first.signal(signal.SIGSTOP)
    second = shop.worker("-c", "1")
    keys = shop.app.keys.queue("default")
    eventually(
        lambda: (
            not any(
                f":{first.pid}:".encode() in name
                for name in shop.app.sync_broker.execute("ZRANGE", keys.consumers, 0, -1)
            )
        ),
        timeout=20,
    )
    results = [result for n in range(10) for result in shop.send("slow", [(n, 0)])]
    assert {result.get(timeout=20) for result in results} == {second.pid}
    first.signal(signal.SIGCONT)
    shop.stop(second)
    (late,) = shop.send("slow", [(99, 0)])
    assert late.get(timeout=20) == first.pid, "and works again when it comes back"
    shop.stop(first)


def test_a_child_killed_from_outside_costs_only_its_own_message(shop: Shop) -> None:
    worker = shop.worker("-P", "processes", "-c", "2")
    victim, other = shop.send("slow", [(1, 1.0), (2, 1.0)])
    eventually(lambda: {"begin 1", "begin 2"} <= set(shop.effects()), timeout=20)
    children = [int(pid) for pid in _children_of(worker.pid) if _is_busy(int(pid))]
    assert children
    os.kill(children[0], signal.SIGKILL)
    pids = {victim.get(timeout=20), other.get(timeout=20)}
    assert children[0] not in pids
    assert shop.effects().count("begin 1") + shop.effects().count("begin 2") == 3
    shop.stop(worker)


def _children_of(pid: int) -> list[str]:
    """All processes below *pid*; a fork server stands between a worker and its children."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [child, *_children_of(int(child))]
    # threads other than the main one may have started them
    for task in Path(f"/proc/{pid}/task").iterdir():
        if task.name != str(pid):
            for child in (task / "children").read_text().split():
                found += [child, *_children_of(int(child))]
    return found


def _is_busy(pid: int) -> bool:
    """Whether it has the effects file open: only children that have imported the app do."""
    try:
        links = [link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir()]
        command = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return False
    threads = int(command[17])
    return "effects.txt" in links and threads > 1
