"""The worker as a whole: strange entries, unknown tasks, stopping, and Redis behind its back."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.proxy import FaultProxy
from support.wait import eventually
from support.worker import run_burst, running_worker

from taskq import TaskFailedError, TaskQ, TaskState, current_task
from taskq.broker import scripts
from taskq.broker.scripts.settling import settle
from taskq.embedded import EmbeddedRedis
from taskq.errors import BrokerUnavailableError

MakeApp = Callable[..., TaskQ]


@pytest.mark.parametrize(
    "fields",
    [
        {"x": "1", "y": "2"},
        {"m": b"\xff\xfe\x00"},
        {"m": b""},
        {"m": b"\x93\x01\x02\x03"},
        {"m": b"\x90", "c": "not a number"},
        {os.urandom(5): os.urandom(200), b"m2": b"", b"": b"\x00"},
    ],
    ids=["no message", "bytes", "empty", "wrong array", "strange charge", "random"],
)
def test_garbage_goes_to_the_dead_letters_and_the_worker_goes_on(
    app: TaskQ, redis_client: Any, fields: dict[Any, Any]
) -> None:
    @app.task
    def ping() -> str:
        return "pong"

    with running_worker(app):
        redis_client.xadd(app.keys.queue("default").stream(5), fields)
        assert ping.delay().get(timeout=30) == "pong"
        (letter,) = eventually(app.dlq.list)
    assert letter.evidence.reason == "malformed"
    assert letter.message is None
    kept = [fields["m"]] if "m" in fields else [*fields, *fields.values()]
    assert all((part.encode() if isinstance(part, str) else part) in letter.data for part in kept)
    assert app.dlq.replay() == 0, "what is not a message cannot be put back"
    assert app.dlq.purge() == 1


def test_a_message_of_a_newer_wire_version_is_kept(app: TaskQ, redis_client: Any) -> None:
    import msgspec

    data = msgspec.msgpack.encode([99, "id", "ping", [], {}, None])
    redis_client.xadd(app.keys.queue("default").stream(5), {"m": data})
    run_burst(app)
    (letter,) = app.dlq.list()
    assert letter.data == data
    assert "wire version 99" in letter.evidence.error
    app.dlq.purge()


def test_an_unknown_task_is_handed_back_uncharged(make_app: MakeApp) -> None:
    old = make_app(unknown_task_delay=0.05)

    @old.task(name="known")
    def known() -> None: ...

    new = make_app()

    @new.task(name="just deployed")
    def deployed() -> list[int]:
        return [current_task().attempt, current_task().deliveries]

    unknown: list[str] = []
    old.hooks.listen("unknown_task", lambda queue, task: unknown.append(task))
    with running_worker(old):
        result = deployed.delay()
        eventually(lambda: len(unknown) >= 3)
        assert not result.ready()
    with running_worker(new):
        assert result.get(timeout=30) == [1, 1]


def test_a_task_that_nobody_knows_for_long_is_a_dead_letter(make_app: MakeApp) -> None:
    app = make_app(unknown_task_delay=0.02, unknown_task_timeout=0.1, failure_expires="2h")
    result = app.send_task("never heard of", ("x",))
    with running_worker(app):
        (letter,) = eventually(app.dlq.list)
        with pytest.raises(TaskFailedError, match="no worker knew the task"):
            result.get(timeout=30)
    assert (letter.task, letter.evidence.reason) == ("never heard of", "unknown task")
    left = app.sync_broker.execute("PTTL", app.keys.queue("default").result(result.id))
    assert 7_000_000 < left <= 7_200_000
    app.dlq.purge()


def test_burst_ends_when_the_queues_are_empty(app: TaskQ) -> None:
    done: list[int] = []

    @app.task
    def note(x: int) -> None:
        done.append(x)

    note.delay_many([(x,) for x in range(2000)])
    run_burst(app)
    assert sorted(done) == list(range(2000))
    run_burst(app)


# A delivered message moves to another stream, delivered still: a recovery and the next fetch, with nothing between.
MOVE_DELIVERED = """
local entry = redis.call('XRANGE', KEYS[1], '-', '+')[1]
redis.call('XADD', KEYS[2], '*', unpack(entry[2]))
redis.call('XREADGROUP', 'GROUP', 'taskq', 'other', 'STREAMS', KEYS[2], '>')
redis.call('XACK', KEYS[1], 'taskq', entry[1])
redis.call('XDEL', KEYS[1], entry[1])
"""


def test_burst_waits_for_what_others_hold_wherever_it_moves(app: TaskQ, redis_client: Any) -> None:
    @app.task
    def ping() -> None:
        pass

    keys = app.keys.queue("default")
    streams = scripts.streams_of(keys, [5])
    app.sync_broker.run(scripts.register(keys, b"other", 60_000, streams))
    ping.delay()
    app.sync_broker.execute("XREADGROUP", "GROUP", "taskq", "other", "STREAMS", keys.stream(5), ">")
    move = redis_client.register_script(MOVE_DELIVERED)
    front, level = keys.stream("front"), keys.stream(5)
    with running_worker(app, burst=True) as running:
        for _ in range(1500):
            move(keys=[level, front])
            move(keys=[front, level])
        assert running.running
        app.sync_broker.run(scripts.recover(keys, streams, b"other", 0))
        running.join()
    assert [stats.backlog for stats in app.queues()] == [0]


def test_messages_of_the_same_millisecond_in_several_levels_stay_apart(app: TaskQ, redis_client: Any) -> None:
    """Each stream counts its own entry ids, so two levels may use the same one."""

    @app.task
    def echo(x: int) -> int:
        return x

    keys = app.keys.queue("default")
    results = [echo.options(priority=priority).delay(priority) for priority in (1, 5, 9)]
    for priority in (1, 5, 9):
        ((_, fields),) = redis_client.xrange(keys.stream(priority))
        redis_client.delete(keys.stream(priority))
        redis_client.xadd(keys.stream(priority), fields, id="1000-0")
    with running_worker(app):
        assert [result.get(timeout=30) for result in results] == [1, 5, 9]


def test_a_level_that_comes_into_use_does_not_confuse_what_runs(app: TaskQ) -> None:
    running, go_on = threading.Event(), threading.Event()

    @app.task
    def wait() -> str:
        running.set()
        assert go_on.wait(20)
        return "waited"

    @app.task
    def ping() -> str:
        return "pong"

    with running_worker(app):
        waiting = wait.delay()
        assert running.wait(30)
        for priority in (9, 7, 6, 0):
            assert ping.options(priority=priority).delay().get(timeout=30) == "pong"
        go_on.set()
        assert waiting.get(timeout=30) == "waited"


def test_stopping_gives_back_what_has_not_started(app: TaskQ, redis_client: Any) -> None:
    running, go_on = threading.Event(), threading.Event()
    ran: list[int] = []

    @app.task
    def wait(x: int) -> list[int]:
        ran.append(x)
        running.set()
        assert go_on.wait(20)
        return [current_task().attempt, current_task().deliveries]

    results = wait.delay_many([(x,) for x in range(20)])
    with running_worker(app, concurrency=2) as worker:
        assert running.wait(30)
        worker.call(worker.worker.stop)
        eventually(lambda: worker.worker._fetcher.draining)  # it fetches no more, and has given back what waited
        go_on.set()
        worker.join()
    assert len(ran) <= 2
    assert sum(result.ready() for result in results) == len(ran)
    with running_worker(app):
        assert [result.get(timeout=30) for result in results] == [[1, 1]] * 20
    assert sorted(ran) == list(range(20))


def test_a_second_signal_hands_back_what_runs(app: TaskQ) -> None:
    running, go_on = threading.Event(), threading.Event()
    deliveries: list[tuple[int, int]] = []

    @app.task
    def wait() -> str:
        deliveries.append((current_task().attempt, current_task().deliveries))
        running.set()
        assert go_on.wait(20)
        return "done"

    with running_worker(app, concurrency=1) as worker:
        result = wait.delay()
        assert running.wait(30)
        worker.hurry()
    assert result.status is TaskState.PENDING
    go_on.set()
    with running_worker(app):
        assert result.get(timeout=30) == "done"
    assert deliveries == [(1, 1), (1, 1)], "handing back charges nothing"


def test_a_lost_lease_is_noticed_and_its_outcomes_are_dropped(make_app: MakeApp, redis_client: Any) -> None:
    app = make_app(lease_timeout=0.6)
    running, go_on = threading.Event(), threading.Event()
    seen: list[tuple[bool, bool]] = []

    @app.task
    def wait() -> int:
        if current_task().deliveries == 1:
            running.set()
            assert go_on.wait(20)
            seen.append((current_task().cancelled, current_task().lease_lost))
        return current_task().deliveries

    lost: list[str] = []
    app.hooks.listen("lease_lost", lost.append)
    keys = app.keys.queue("default")
    with running_worker(app, concurrency=2) as worker:
        result = wait.delay()
        assert running.wait(30)
        stale = worker.consumer
        # what a colleague does once the lease has run out
        app.sync_broker.run(scripts.recover(keys, scripts.streams_of(keys, []), stale, 1))
        assert result.get(timeout=30) == 2, "the second delivery counts"
        assert worker.consumer != stale
        go_on.set()
        eventually(lambda: bool(seen))
    assert seen == [(True, True)]
    assert lost == ["default"]
    assert result.get(timeout=30) == 2


def test_its_name_removed_behind_its_back_a_worker_registers_again(make_app: MakeApp, redis_client: Any) -> None:
    app = make_app(lease_timeout=0.6)

    @app.task
    def ping() -> str:
        return "pong"

    with running_worker(app) as worker:
        before = worker.consumer
        redis_client.zrem(app.keys.queue("default").consumers, before)
        assert ping.delay().get(timeout=30) == "pong"
        eventually(lambda: worker.consumer != before)
        assert ping.delay().get(timeout=30) == "pong"
    for stream in (b"front", b"5"):
        names = [
            row["name"]
            for row in redis_client.xinfo_consumers(app.keys.queue("default").stream(stream.decode()), "taskq")
        ]
        assert worker.consumer not in names


def under_load(app: TaskQ, sabotage: Callable[[], None], *, count: int = 600) -> list[int]:
    """Run *count* messages, sabotage Redis in the middle, and return what ran."""
    ran: list[int] = []
    half = threading.Event()

    @app.task(name="work", retry_backoff=0.01)
    def work(x: int) -> int:
        ran.append(x)
        if len(ran) >= count // 2:
            half.set()
        time.sleep(0.0005)
        return x

    results = work.delay_many([(x,) for x in range(count)])
    with running_worker(app, concurrency=4):
        assert half.wait(20)
        sabotage()
        assert [result.get(timeout=30) for result in results] == list(range(count))
    return ran


def test_scripts_flushed_under_load(make_app: MakeApp, private_redis: Callable[..., EmbeddedRedis]) -> None:
    server = private_redis(appendonly=False)
    app = make_app(broker_url=server.url)
    ran = under_load(app, lambda: app.sync_broker.execute("SCRIPT", "FLUSH"))
    assert sorted(ran) == list(range(600))


def test_connections_killed_under_load(make_app: MakeApp, private_redis: Callable[..., EmbeddedRedis]) -> None:
    server = private_redis(appendonly=False)
    app = make_app(broker_url=server.url)

    def kill() -> None:
        for _ in range(5):
            app.sync_broker.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            app.sync_broker.execute("CLIENT", "KILL", "TYPE", "pubsub")

    ran = under_load(app, kill)
    assert sorted(ran) == list(range(600)), "none lost, none twice"


def test_replies_lost_under_load(make_app: MakeApp, redis_url: str) -> None:
    with FaultProxy(redis_url) as proxy:
        app = make_app()
        worker_app = make_app(broker_url=proxy.url)
        ran: list[int] = []
        attempts: list[int] = []

        def work(x: int) -> int:
            ran.append(x)
            attempts.append(current_task().attempt)
            if len(ran) % 40 == 0:
                proxy.drop_replies()
            time.sleep(0.0005)
            if x % 10 == 0 and current_task().attempt == 1:
                raise OSError("once")
            return x

        for each in (app, worker_app):
            each.task(name="work", retry_backoff=0.01)(work)
        results = app.tasks["work"].delay_many([(x,) for x in range(400)])
        with running_worker(worker_app, concurrency=4):
            assert [result.get(timeout=30) for result in results] == list(range(400))
        assert proxy.dropped >= 5
    assert sorted(ran) == sorted([*range(400), *range(0, 400, 10)]), "none lost, none twice"


def test_a_destroyed_group_is_made_again(make_app: MakeApp, private_redis: Callable[..., EmbeddedRedis]) -> None:
    server = private_redis(appendonly=False)
    app = make_app(broker_url=server.url, lease_timeout=1)
    stream = app.keys.queue("default").stream(5)
    ran = under_load(app, lambda: app.sync_broker.execute("XGROUP", "DESTROY", stream, "taskq"))
    assert set(ran) == set(range(600)), "what was in flight may run twice, nothing is lost"
    assert len(ran) < 600 + 200


def test_after_flushall_the_worker_goes_on(make_app: MakeApp, private_redis: Callable[..., EmbeddedRedis]) -> None:
    server = private_redis(appendonly=False)
    app = make_app(broker_url=server.url, lease_timeout=1)

    @app.task
    def ping(x: int) -> int:
        return x

    with running_worker(app):
        for n in range(3):
            ping.delay_many([(x,) for x in range(200)])
            app.sync_broker.execute("FLUSHALL")
            assert ping.delay(n).get(timeout=20) == n


@pytest.mark.parametrize("where", ["idle", "under load"])
def test_a_restarted_server_is_found_again(
    make_app: MakeApp, private_redis: Callable[..., EmbeddedRedis], where: str
) -> None:
    server = private_redis(appendfsync="always")
    app = make_app(broker_url=server.url, lease_timeout=2, broker_deadline=20)

    def crash() -> None:
        server.kill()
        server.restart()

    if where == "under load":
        assert set(under_load(app, crash)) == set(range(600))
    else:

        @app.task
        def ping() -> str:
            return "pong"

        with running_worker(app):
            assert ping.delay().get(timeout=20) == "pong"
            crash()
            assert ping.delay().get(timeout=20) == "pong"


def test_without_memory_outcomes_wait_until_there_is_room(
    make_app: MakeApp, private_redis: Callable[..., EmbeddedRedis]
) -> None:
    server = private_redis(appendonly=False)
    app = make_app(broker_url=server.url, lease_timeout=2)
    runs: list[int] = []

    @app.task(max_retries=0)
    def fail(x: int) -> None:
        runs.append(x)
        if x == 0:
            app.sync_broker.execute("CONFIG", "SET", "maxmemory", "1")
        raise ValueError(x)

    results = fail.delay_many([(x,) for x in range(5)])
    with running_worker(app, concurrency=1):
        eventually(lambda: bool(runs))
        assert app.dlq.count() == 0
        app.sync_broker.execute("CONFIG", "SET", "maxmemory", "0")
        for result in results:
            with pytest.raises(TaskFailedError):
                result.get(timeout=20)
    assert app.dlq.count() == 5
    assert runs == list(range(5))


def test_a_worker_without_redis_does_not_start(make_app: MakeApp) -> None:
    app = make_app(broker_url="redis://127.0.0.1:1/0", broker_deadline=0.5)

    @app.task
    def ping() -> None: ...

    with pytest.raises(BrokerUnavailableError):
        run_burst(app)


def test_a_dead_workers_messages_are_recovered(make_app: MakeApp, redis_client: Any) -> None:
    app = make_app(lease_timeout=0.5)

    @app.task
    def tell() -> list[int]:
        return [current_task().attempt, current_task().deliveries]

    keys = app.keys.queue("default")
    streams = scripts.streams_of(keys, [])
    app.sync_broker.run(scripts.register(keys, b"dead", 1, streams))
    result = tell.delay()
    app.sync_broker.run(settle(keys, streams, b"dead", 10))
    assert result.status is TaskState.STARTED
    recovered: list[int] = []
    app.hooks.listen("recovered", lambda queue, count: recovered.append(count))
    with running_worker(app):
        assert result.get(timeout=30) == [1, 2]
    assert recovered == [1]


def test_what_a_blocked_read_brings_to_a_stale_name_is_found(make_app: MakeApp, redis_client: Any) -> None:
    """Its worker was paused, or gone with its host: the read stays blocked at the server after the recovery."""
    app = make_app(lease_timeout=0.5)

    @app.task
    def tell() -> list[int]:
        return [current_task().attempt, current_task().deliveries]

    keys = app.keys.queue("default")
    app.sync_broker.run(scripts.register(keys, b"live", 60_000, scripts.streams_of(keys, [])))
    app.sync_broker.execute("ZREM", keys.consumers, b"live")
    result = tell.delay()
    app.sync_broker.execute("XREADGROUP", "GROUP", "taskq", "stale", "STREAMS", keys.stream(5), ">")
    with running_worker(app):
        assert result.get(timeout=30) == [1, 1]


def test_a_message_that_killed_three_workers_is_a_dead_letter(make_app: MakeApp) -> None:
    app = make_app()

    @app.task
    def poison() -> str:
        return "never called"

    keys = app.keys.queue("default")
    streams = scripts.streams_of(keys, [])
    result = poison.delay()
    for n in range(3):
        name = b"dead-%d" % n
        app.sync_broker.run(scripts.register(keys, name, 1, streams))
        _, ((number, entries),), *_ = app.sync_broker.run(settle(keys, streams, name, 10))
        if n > 0:  # a suspect by now, which runs on the record
            assert app.sync_broker.run(scripts.mark(keys, streams[number - 1], name, entries[0][0]))
        app.sync_broker.run(scripts.recover(keys, streams, name, 1))
    with running_worker(app), pytest.raises(TaskFailedError, match="3 workers died"):
        result.get(timeout=30)
    (letter,) = app.dlq.list()
    assert (letter.evidence.reason, letter.evidence.crashes) == ("crashed", 3)
    assert app.dlq.replay() == 1, "a replayed message has a clean record"
    with running_worker(app):
        assert result.get(timeout=30) == "never called"
