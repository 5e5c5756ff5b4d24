"""A message that was revoked before it had started never starts: asked of every pool, wherever the message may be."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from support.wait import eventually
from support.worker import RunningWorker, running_worker

from taskq import Result, TaskQ, TaskState
from taskq.client.loading import load_app
from taskq.worker.running.executors.processes import ProcessExecutor

TASKS = """
import asyncio, os, pathlib, time
from taskq import Batch, TaskQ

app = TaskQ("revoking", {url!r}, namespace={namespace!r})
here = pathlib.Path({here!r})


def log(line):
    descriptor = os.open(here / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode() + b"\\n")
    os.close(descriptor)


@app.task(name="block")
{maybe_async}def block():
    log("blocking")
    while not (here / "go").exists():
        {nap}


@app.task(name="short")
{maybe_async}def short(): ...


@app.task(name="note")
{maybe_async}def note(text):
    log(text)


@app.task(name="once", delivery="at_most_once")
{maybe_async}def once(text):
    log(text)


@app.task(name="limited", rate_limit="1/s")
{maybe_async}def limited(text):
    log(text)


@app.task(name="together", batch=Batch(size=3, wait="5m"))
{maybe_async}def together(items):
    log(" ".join(item.args[0] for item in items))
"""
SHORT_ONES = 300


class Pool:
    """An app in a module of its own, the kind of pool that runs it, and the files by which its tasks talk to us."""

    def __init__(self, app: TaskQ, path: str, kind: str, here: Path, client: Any) -> None:
        self.app = app
        self.kind = kind
        self._path = path
        self._here = here
        self._client = client

    def lines(self) -> list[str]:
        log = self._here / "log"
        return log.read_text().splitlines() if log.exists() else []

    def let_go(self) -> None:
        """Let the tasks go on that block."""
        (self._here / "go").touch()

    @contextmanager
    def worker(self) -> Iterator[RunningWorker]:
        """A worker with one slot of each kind."""
        pool = {"coroutines": "threads", "isolation": "threads"}.get(self.kind, self.kind)
        options = {"concurrency": 1, "async_concurrency": 1, "pool": pool, "app_path": self._path}
        with running_worker(self.app, **options) as running:
            yield running

    def send(self, name: str, *args: Any, **options: Any) -> Result[Any]:
        """Send one message; where suspects are what the test is about, one that was with a worker that died."""
        if self.kind != "isolation" or options:
            return self.app.tasks[name].options(**options).delay(*args)
        result = self.app.tasks[name].options(queue="elsewhere").delay(*args)
        elsewhere = self.app.keys.queue("elsewhere").stream(5)
        ((_, fields),) = self._client.xrange(elsewhere)
        self._client.delete(elsewhere)
        self._client.xadd(self.app.keys.queue("default").stream(5), fields | {b"c": b"0"})
        return Result(self.app, result.id, "default")


@pytest.fixture(params=["threads", "solo", "coroutines", "processes", "isolation"])
def pool(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_url: str,
    namespace: str,
    redis_client: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Pool]:
    module = f"revoking_{namespace}"
    awaits = request.param == "coroutines"
    text = TASKS.format(
        url=redis_url,
        namespace=namespace,
        here=str(tmp_path),
        maybe_async="async " if awaits else "",
        nap="await asyncio.sleep(0.005)" if awaits else "time.sleep(0.005)",
    )
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    app = load_app(f"{module}:app")
    monkeypatch.delitem(sys.modules, module)
    yield Pool(app, f"{module}:app", request.param, tmp_path, redis_client)
    app.close()


def held(running: RunningWorker) -> list[Any]:
    return [delivery for link in running.worker._links for delivery in list(link.held.values())]


def all_heard(running: RunningWorker, revoked: list[Result[Any]]) -> bool:
    """Whether the worker knows of the revocation of each that it holds."""
    ids = {result.id for result in revoked}
    return all(delivery.cancelled for delivery in held(running) if delivery.message.task_id in ids)


def run_short_ones(pool: Pool) -> None:
    """Let the worker believe that tasks are short: it then takes several ahead."""
    for result in pool.app.tasks["short"].delay_many([()] * SHORT_ONES):
        result.get(timeout=30)


def ended_revoked(results: list[Result[Any]]) -> bool:
    return all(result.status is TaskState.REVOKED and result.ready() for result in results)


def test_what_lay_in_redis(pool: Pool) -> None:
    results = [
        pool.send("note", "queued"),
        pool.send("once", "queued"),
        pool.send("note", "delayed", countdown=0.3),
        pool.send("note", "claiming", idempotency_key="k"),
    ]
    assert all(result.revoke() for result in results)
    with pool.worker():
        eventually(lambda: ended_revoked(results))
        pool.app.pause("default")
        paused = pool.app.tasks["note"].delay("paused")
        assert paused.revoke()
        pool.app.resume("default")
        eventually(lambda: ended_revoked([paused]))
        assert not paused.revoke(), "it has ended"
    assert pool.lines() == []


@pytest.mark.parametrize("name", ["note", "once", "limited"])
def test_what_waited_for_a_slot(pool: Pool, name: str) -> None:
    if (pool.kind, name) == ("isolation", "once"):
        pytest.skip("what runs at most once had not begun when its worker died: it is not isolated")
    with pool.worker() as running:
        run_short_ones(pool)
        with nullcontext() if pool.kind == "isolation" else pool.app.batch():
            first, *results = pool.send("block"), *(pool.send(name, f"waits {n}") for n in range(3))
        eventually(lambda: pool.lines() == ["blocking"])
        assert all(result.revoke() for result in results)
        if pool.kind != "solo":  # its loop stands still meanwhile
            eventually(lambda: all_heard(running, results))
        pool.let_go()
        eventually(lambda: ended_revoked(results))
        first.get(timeout=30)
    assert pool.lines() == ["blocking"]


def test_a_member_of_a_batch(pool: Pool) -> None:
    if pool.kind == "isolation":
        pytest.skip("suspects of a batch task run in the worker's own pool, each by itself")
    with pool.worker() as running:
        results = [pool.send("together", "first"), pool.send("together", "second")]
        eventually(lambda: len(held(running)) == 2)
        assert results[0].revoke()
        eventually(lambda: all_heard(running, results[:1]))
        results.append(pool.send("together", "third"))
        eventually(lambda: all(result.ready() for result in results))
        assert [result.status for result in results] == ["REVOKED", "SUCCESS", "SUCCESS"]
    assert pool.lines() == ["second third"]


def test_what_waited_for_a_permit(pool: Pool) -> None:
    with pool.worker():
        pool.app.tasks["limited"].delay("first").get(timeout=30)
        results = [pool.app.tasks["limited"].delay(f"parked {n}") for n in range(3)]
        assert results[2].revoke()
        eventually(lambda: ended_revoked(results[2:]))
        assert [result.get(timeout=30) for result in results[:2]] == [None, None]
    assert pool.lines() == ["first", "parked 0", "parked 1"]


@pytest.mark.parametrize("pool", ["processes"], indirect=True)
def test_what_lay_in_the_pipe_of_a_child(pool: Pool) -> None:
    with pool.worker() as running:
        executor = running.worker._sync
        assert isinstance(executor, ProcessExecutor)

        def lying() -> int:
            return sum(len(each.held) for each in executor._children)

        first = pool.send("block")
        eventually(lambda: pool.lines() == ["blocking"])
        running.call(lambda: executor._times.add(1e-6))  # who believes that tasks are short gives a child several ahead
        notes = [pool.send("note", f"in the pipe {n}") for n in range(5)]
        eventually(lambda: lying() == 6)
        members = [pool.send("together", f"member {n}") for n in range(6)]
        eventually(lambda: lying() == 8)
        revoked = [*notes[:4], members[0], *members[3:]]
        assert all(result.revoke() for result in revoked)
        eventually(lambda: all_heard(running, revoked))
        pool.let_go()
        eventually(lambda: ended_revoked(revoked))
        for result in (first, notes[4], *members[1:3]):
            result.get(timeout=30)
        assert pool.lines() == ["blocking", "in the pipe 4", "member 1 member 2"]


@pytest.mark.parametrize("pool", ["threads", "processes"], indirect=True)
def test_word_that_was_missed_is_asked_for_after_a_reconnect(pool: Pool, redis_client: Any) -> None:
    with pool.worker() as running:
        result = pool.send("together", "first")
        eventually(lambda: len(held(running)) == 1)
        # as revoke.lua does, but for the word on the channel, which was lost
        redis_client.zadd(pool.app.keys.queue("default").revoked, {result.id: 1e15})
        redis_client.pexpire(pool.app.keys.queue("default").revoked, 60_000)
        control = running.worker._control._connection
        assert control is not None
        running.call(control.close)
        eventually(lambda: all_heard(running, [result]))
        others = [pool.send("together", "second"), pool.send("together", "third")]
        eventually(lambda: ended_revoked([result]))
        assert [other.get(timeout=30) for other in others] == [None, None]
    assert pool.lines() == ["second third"]
