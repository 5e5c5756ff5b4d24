"""Batch jobs: every event of a window counts once in what is committed, whatever dies on the way."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from support.process import Proc
from support.wait import eventually
from support.worker import running_worker

from taskq import (
    Batch,
    ConfigError,
    TaskFailedError,
    TaskQ,
    TaskqError,
    UnknownTaskError,
    UnknownTopicError,
    Window,
    cron,
    every,
)
from taskq.client.jobs import previous_day

MakeApp = Callable[..., TaskQ]
Spawn = Callable[..., Proc]
DAILY = cron("0 1 * * *", tz="UTC")

pytestmark = pytest.mark.leaves_keys("event streams keep their events")


@pytest.fixture
def orders(app: TaskQ) -> TaskQ:
    app.topic("orders")
    return app


def test_since_last_takes_up_where_the_last_run_ended(orders: TaskQ, redis_client: Any) -> None:
    sizes: list[list[int]] = []

    @orders.batch_job(DAILY, source="orders", name="settle", page=10)
    def settle(window: Window) -> int:
        total = window.state or 0
        sizes.append([])
        for page in window.pages():
            sizes[-1].append(len(page))
            total += sum(event.payload for event in page)
            page.commit(total)
        return total

    assert orders.jobs.progress("settle").status == "never"
    orders.publish_many("orders", range(25))
    with running_worker(orders):
        assert orders.jobs.run("settle").get(timeout=30) == sum(range(25))
        orders.publish_many("orders", [1000, 2000])
        published = int(orders.events.end("orders").partition("-")[0])
        # events of the very millisecond in which a window ends belong to the next one
        eventually(lambda: redis_client.time() > (published // 1000, published % 1000 * 1000 + 1000))
        assert orders.jobs.run("settle").get(timeout=30) == 3000
        assert orders.jobs.run("settle").get(timeout=30) == 0
    assert sizes == [[10, 10, 5], [2], []]
    progress = orders.jobs.progress("settle")
    assert (progress.status, progress.percent, progress.result, progress.missed) == ("done", 100, 0, 0)
    assert progress.position == orders.events.end("orders")


def test_a_run_that_became_a_dead_letter_has_failed_and_a_replay_goes_on_with_it(orders: TaskQ) -> None:
    broken = threading.Event()
    broken.set()

    @orders.batch_job(DAILY, source="orders", name="settle", page=10, max_retries=0)
    def settle(window: Window) -> int:
        count = 0
        for page in window.pages():
            count += len(page)
            page.commit(count)
            if broken.is_set():
                raise OSError("no disk")
        return count

    orders.publish_many("orders", range(15))
    with running_worker(orders):
        run = orders.jobs.run("settle")
        assert isinstance(run.get(timeout=20, propagate=False), TaskFailedError)
        failed = orders.jobs.progress("settle")
        assert (failed.status, failed.done, failed.error) == ("failed", 10, "OSError: no disk")
        broken.clear()
        orders.dlq.replay()
        eventually(lambda: orders.jobs.progress("settle").status == "done")
    assert orders.jobs.progress("settle").done == 15


def test_a_failed_run_goes_on_from_its_last_checkpoint(orders: TaskQ) -> None:
    seen: list[int] = []

    @orders.batch_job(DAILY, source="orders", name="settle", page=10, max_retries=3, retry_backoff=0.01)
    def settle(window: Window) -> list[Any]:
        count = window.state or 0
        for number, page in enumerate(window.pages()):
            if number == 1:
                raise ConnectionError("the bank is away")
            count += len(page)
            seen.extend(event.payload for event in page)
            page.commit(count)
        return [count, window.resumed, window.done, window.total]

    orders.publish_many("orders", range(25))
    with running_worker(orders):
        result = orders.jobs.run("settle")
        assert result.get(timeout=30) == [25, True, 25, 25]
    assert seen == list(range(25))


def test_progress_is_seen_while_it_runs(orders: TaskQ) -> None:
    half, go = threading.Event(), threading.Event()

    @orders.batch_job(DAILY, source="orders", name="settle", page=10, max_retries=0)
    def settle(window: Window) -> None:
        for page in window.pages():
            page.commit()
            if window.done == 20:
                half.set()
                assert go.wait(30)
                raise ValueError("no more")

    orders.publish_many("orders", range(40))
    with running_worker(orders):
        result = orders.jobs.run("settle")
        assert half.wait(30)
        progress = orders.jobs.progress("settle")
        assert (progress.status, progress.done, progress.total, progress.percent) == ("running", 20, 40, 50)
        assert progress.run == result.id
        go.set()
        with pytest.raises(TaskFailedError):
            result.get(timeout=30)
    assert orders.jobs.list()[0].error == "ValueError: no more"
    orders.dlq.purge()


def test_a_fire_that_comes_late_or_again_does_nothing_twice(orders: TaskQ) -> None:
    runs: list[int] = []

    @orders.batch_job(DAILY, source="orders", name="settle")
    def settle(window: Window) -> int:
        runs.append(sum(len(page) for page in window.pages()))
        return runs[-1]

    orders.publish_many("orders", range(5))
    now = datetime.now(UTC)
    with running_worker(orders):
        later = now + timedelta(minutes=1)
        assert orders.jobs.run("settle", later).get(timeout=30) == 5
        assert orders.jobs.run("settle", now).get(timeout=30) is None, "it lies in what was committed"
    assert runs == [5]


def test_previous_day_reads_that_day_each_once_in_any_order(orders: TaskQ, redis_client: Any) -> None:
    @orders.batch_job(cron("0 1 * * *", tz="Europe/Paris"), source="orders", window="previous_day", name="day")
    def day(window: Window) -> list[Any]:
        return [event.payload for page in window.pages() for event in page]

    topic = orders.keys.topic("orders")
    paris = ZoneInfo("Europe/Paris")
    # the clock goes forward on 2026-03-29: that day has 23 hours
    instants = [(28, 23, 59), (29, 0, 0), (29, 23, 59), (30, 0, 0), (30, 12, 0)]
    for ordinal, (at, hour, minute) in enumerate(instants, 1):
        ms = round(datetime(2026, 3, at, hour, minute, tzinfo=paris).timestamp() * 1000)
        redis_client.xadd(topic.events, {"m": bytes([ordinal]), "n": ordinal}, id=f"{ms}-0")
    redis_client.sadd(orders.keys.topics, "orders")
    with running_worker(orders):
        for at, wanted in ((31, [4, 5]), (30, [2, 3]), (29, [1]), (30, None)):
            fire = datetime(2026, 3, at, 1, tzinfo=paris)
            result = orders.jobs.run("day", fire + timedelta(minutes=0 if wanted is not None else 5))
            assert result.get(timeout=30) == wanted


def test_a_day_has_as_many_hours_as_its_zone_says() -> None:
    def hours(zone: str, day: datetime) -> float:
        begin, end = previous_day(day, ZoneInfo(zone))
        return (end - begin).total_seconds() / 3600

    assert hours("Europe/Paris", datetime(2026, 3, 30, 1, tzinfo=UTC)) == 23
    assert hours("Europe/Paris", datetime(2026, 10, 26, 1, tzinfo=UTC)) == 25
    assert hours("Australia/Lord_Howe", datetime(2026, 4, 5, 20, tzinfo=UTC)) == 24.5
    begin, _ = previous_day(datetime(2026, 4, 25, 10, tzinfo=UTC), ZoneInfo("Africa/Cairo"))
    assert begin == datetime(2026, 4, 23, 22, tzinfo=UTC), "midnight of the 24th is skipped there"


def test_a_second_run_waits_for_the_first(orders: TaskQ, monkeypatch: pytest.MonkeyPatch) -> None:
    from taskq.client.jobs import definition

    monkeypatch.setattr(definition, "BUSY_WAIT", 0.05)
    begun, go = threading.Event(), threading.Event()
    running: list[int] = []

    @orders.batch_job(DAILY, source="orders", name="settle", max_retries=0)
    def settle(window: Window) -> int:
        running.append(1)
        assert len(running) == 1
        begun.set()
        assert go.wait(30)
        count = sum(len(page) for page in window.pages())
        running.pop()
        return count

    orders.publish_many("orders", range(5))
    with running_worker(orders):
        first = orders.jobs.run("settle")
        assert begun.wait(30)
        orders.publish_many("orders", range(3))
        second = orders.jobs.run("settle")
        eventually(lambda: second.status.value == "RETRY")
        go.set()
        assert [first.get(timeout=30), second.get(timeout=30)] in ([5, 3], [5, 0])
    # what came while the first ran is in the window of the second, or of a third
    assert running == []


def test_an_async_job(orders: TaskQ) -> None:
    @orders.batch_job(every(3600), source="orders", name="settle", page=4)
    async def settle(window: Window) -> int:
        total = window.state or 0
        async for page in window.apages():
            await asyncio.sleep(0)
            total += len(page)
            await page.acommit(total)
        return total

    orders.publish_many("orders", range(10))
    with running_worker(orders):
        assert orders.jobs.run("settle").get(timeout=30) == 10


def test_events_that_were_dropped_unread_are_counted(orders: TaskQ, redis_client: Any) -> None:
    @orders.batch_job(DAILY, source="orders", name="settle")
    def settle(window: Window) -> int:
        return sum(len(page) for page in window.pages())

    orders.publish_many("orders", range(5))
    with running_worker(orders):
        orders.jobs.run("settle").get(timeout=30)
        orders.publish_many("orders", range(10))
        redis_client.xtrim(orders.keys.topic("orders").events, maxlen=7, approximate=False)
        assert orders.jobs.run("settle").get(timeout=30) == 7
    assert orders.jobs.progress("settle").missed == 3


def test_what_cannot_be_is_refused_before_anything_is_written(orders: TaskQ, redis_client: Any, namespace: str) -> None:
    for error, settings in (
        (UnknownTopicError, {"source": "nothing"}),
        (ConfigError, {"source": "orders", "window": "yesterday"}),
        (ConfigError, {"source": "orders", "page": 0}),
        (ConfigError, {"source": "orders", "page": True}),
        (ConfigError, {"source": "orders", "batch": Batch()}),
        (ConfigError, {"source": "orders", "delivery": "at_most_once"}),
    ):
        with pytest.raises(error):
            orders.batch_job(DAILY, **settings)(lambda window: None)  # type: ignore[arg-type]

    @orders.batch_job(DAILY, source="orders", name="settle")
    def settle(window: Window) -> None: ...

    with pytest.raises(ConfigError, match="timezone"):
        orders.jobs.run("settle", datetime(2026, 1, 1))
    with pytest.raises(UnknownTaskError, match="settle"):
        orders.jobs.progress("setle")
    with pytest.raises(TaskqError, match="worker"):
        settle()
    assert not list(redis_client.scan_iter(match=f"{namespace}:*"))


JOB = """
import os
from collections import Counter
from taskq import TaskQ, cron

app = TaskQ("killed", lease_timeout=1)
app.topic("orders")

@app.batch_job(cron("0 1 * * *"), source="orders", name="settle", page=int(os.environ["PAGE"]), catch_up="none")
def settle(window):
    state = window.state or {"sums": {}, "count": 0}
    sums = Counter(state["sums"])
    count = state["count"]
    for page in window.pages():
        for event in page:
            sums[str(event.payload[0])] += event.payload[1]
        count += len(page)
        page.commit({"sums": dict(sums), "count": count})
        print("page", count, flush=True)
    with open("/proc/self/status") as status:
        rss = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print("peak", rss, flush=True)
    return {"sums": dict(sorted(sums.items())), "count": count}
"""


def _killed_on_the_way(
    app: TaskQ, spawn: Spawn, tmp_path: Path, env: dict[str, str], events: int, kills: int, pool: str
) -> Any:
    """What a job over *events* comes to whose worker is killed *kills* times on the way."""
    (tmp_path / "killed.py").write_text(JOB)
    app.topic("orders")
    for start in range(0, events, 50_000):
        app.publish_many("orders", [[n % 7, n] for n in range(start, min(start + 50_000, events))])
    result = app.send_task("settle")
    command = ("-m", "taskq", "worker", "-A", "killed:app", "-c", "1", "-P", pool, "-l", "warning")
    key = app.keys.queue("default").job("settle")

    def done() -> int:
        return int(app.sync_broker.execute("HGET", key, "done") or 0)

    for kill in range(kills):
        worker = spawn(*command, env=env)
        enough = (kill + 1) * events // (kills + 2)
        eventually(lambda enough=enough: done() >= enough, 60)  # type: ignore[misc]
        worker.close() if pool == "processes" else worker.kill()
    worker = spawn(*command, env=env)
    got = result.get(timeout=100)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    return got


def _each_once(events: int) -> dict[str, Any]:
    return {"count": events, "sums": {str(k): sum(range(k, events, 7)) for k in range(7)}}


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_killed_on_the_way_every_event_counts_once(
    make_app: MakeApp, spawn: Spawn, tmp_path: Path, redis_url: str, namespace: str, pool: str
) -> None:
    env = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace, "PAGE": "20"}
    app = make_app(lease_timeout=1, max_crashes=9)
    assert _killed_on_the_way(app, spawn, tmp_path, env, 6000, 1, pool) == _each_once(6000)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_million_events_killed_five_times(
    make_app: MakeApp, spawn: Spawn, tmp_path: Path, redis_url: str, namespace: str
) -> None:
    env = {
        "TASKQ_BROKER_URL": redis_url,
        "TASKQ_NAMESPACE": namespace,
        "PAGE": "1000",
        "TASKQ_MAX_CRASHES": "20",
    }
    app = make_app(lease_timeout=1)
    assert _killed_on_the_way(app, spawn, tmp_path, env, 1_000_000, 5, "threads") == _each_once(1_000_000)
