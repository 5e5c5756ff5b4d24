"""The spool: messages wait on local disk while Redis cannot be reached, and go out once, in order, when it is back."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from support.proxy import FaultProxy
from support.wait import eventually

from taskq import BrokerUnavailableError, ConfigError
from taskq.errors import SpoolFullError
from taskq.values.message import decode


def sent(client: Any, namespace: str) -> list[Any]:
    """The first argument of every message in the default queue, in order."""
    rows = client.xrange(f"{namespace}:{{default}}:stream:5")
    return [decode(fields[b"m"]).args[0] for _, fields in rows]


@pytest.fixture
def clean(redis_client: Any, namespace: str) -> Any:
    yield
    redis_client.delete(f"{namespace}:{{default}}:stream:5")


@pytest.fixture
def proxy(redis_url: str) -> Any:
    with FaultProxy(redis_url) as proxy:
        yield proxy


def spooling(make_app: Any, proxy: FaultProxy, tmp_path: Path, **settings: Any) -> Any:
    return make_app(broker_url=proxy.url, spool_path=str(tmp_path / "spool.db"), broker_deadline=0.2, **settings)


@pytest.mark.usefixtures("clean")
def test_what_is_sent_in_an_outage_goes_out_in_order_when_redis_is_back(
    make_app: Any, proxy: FaultProxy, tmp_path: Path, redis_client: Any, namespace: str
) -> None:
    app = spooling(make_app, proxy, tmp_path)

    @app.task
    def job(n: int) -> None: ...

    job.delay(0)
    proxy.refuse()
    proxy.cut()
    results = [job.delay(n) for n in range(1, 4)]
    assert len(app.sender.spool) == 3
    proxy.accept()
    job.delay(4)  # queues behind those that wait
    eventually(lambda: sent(redis_client, namespace) == [0, 1, 2, 3, 4])
    eventually(lambda: len(app.sender.spool) == 0)
    ids = [decode(fields[b"m"]).task_id for _, fields in redis_client.xrange(f"{namespace}:{{default}}:stream:5")]
    assert ids[1:4] == [result.id for result in results]


@pytest.mark.usefixtures("clean")
def test_a_call_that_was_executed_but_not_answered_is_not_sent_again(
    make_app: Any, proxy: FaultProxy, tmp_path: Path, redis_client: Any, namespace: str
) -> None:
    app = spooling(make_app, proxy, tmp_path)

    @app.task
    def job(n: int) -> None: ...

    job.delay(0)
    proxy.drop_replies(1000)
    job.delay(1)
    assert len(app.sender.spool) == 1
    assert sent(redis_client, namespace) == [0, 1], "Redis has it, though nobody was told"
    proxy.drop_replies(0)
    eventually(lambda: len(app.sender.spool) == 0)
    assert sent(redis_client, namespace) == [0, 1]


@pytest.mark.usefixtures("clean")
def test_async_calls_are_spooled_too(
    make_app: Any, proxy: FaultProxy, tmp_path: Path, redis_client: Any, namespace: str
) -> None:
    app = spooling(make_app, proxy, tmp_path)

    @app.task
    async def job(n: int) -> None: ...

    async def main() -> None:
        await job.adelay(0)
        proxy.refuse()
        proxy.cut()
        await asyncio.gather(*(job.adelay(n) for n in range(1, 4)))
        await job.adelay_many([(4,), (5,)])
        proxy.accept()
        app.sender.close_loop()

    asyncio.run(main())
    eventually(lambda: len(app.sender.spool) == 0)
    assert sorted(sent(redis_client, namespace)) == [0, 1, 2, 3, 4, 5]


def test_a_full_spool_raises_and_keeps_nothing(make_app: Any, proxy: FaultProxy, tmp_path: Path) -> None:
    app = spooling(make_app, proxy, tmp_path, spool_limit=2)

    @app.task
    def job(n: int) -> None: ...

    proxy.refuse()
    job.delay_many([(1,), (2,)])
    with pytest.raises(SpoolFullError, match="full"):
        job.delay(3)
    assert len(app.sender.spool) == 2


def test_without_a_spool_the_call_raises_within_the_deadline(make_app: Any, proxy: FaultProxy) -> None:
    app = make_app(broker_url=proxy.url, broker_deadline=0.2)

    @app.task
    def job(n: int) -> None: ...

    proxy.refuse()
    with pytest.raises(BrokerUnavailableError):
        job.delay(1)


def test_a_task_that_may_be_dropped_never_raises(make_app: Any, proxy: FaultProxy) -> None:
    app = make_app(broker_url=proxy.url, broker_deadline=0.2)

    @app.task(when_unavailable="drop")
    def ping(n: int) -> None: ...

    proxy.refuse()
    ping.delay(1)
    assert app.sender.dropped == 1


def test_to_spool_needs_a_path(make_app: Any) -> None:
    app = make_app()
    with pytest.raises(ConfigError, match="needs the setting spool_path"):
        app.task(when_unavailable="spool")(print)


@pytest.mark.usefixtures("clean")
def test_the_next_process_sends_what_a_killed_one_left(
    make_app: Any, tmp_path: Path, redis_url: str, redis_client: Any, namespace: str
) -> None:
    code = f"""
        import os
        from taskq import TaskQ
        app = TaskQ("t", broker_url="redis://127.0.0.1:1/0", namespace={namespace!r}, broker_deadline=0.2,
                    spool_path={str(tmp_path / "spool.db")!r})
        @app.task(name="job")
        def job(n): ...
        job.delay(1); job.delay(2)
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env={**os.environ, "PYTHONPATH": os.getcwd()}, check=False
    )
    assert done.returncode == -9
    app = make_app(spool_path=str(tmp_path / "spool.db"))
    assert len(app.sender.spool) in (0, 1, 2)  # opening it begins to empty it
    eventually(lambda: sent(redis_client, namespace) == [1, 2])
    eventually(lambda: len(app.sender.spool) == 0)


FORK = """
    import os, sys, time
    from taskq import TaskQ

    app = TaskQ("t", broker_url="redis://127.0.0.1:1/0", namespace={namespace!r}, broker_deadline=0.2,
                spool_path={path!r})

    @app.task(name="job")
    def job(n): ...

    job.delay(0)                  # opens the spool, and has a thread that tries to empty it
    for number in (1, 2):
        if os.fork() == 0:
            job.delay(number)
            print("kept", len(app.sender.spool), app.sender._flusher.busy, flush=True)
            os._exit(0)
    codes = {{os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2)}}
    job.delay(3)
    print("codes", codes, len(app.sender.spool), flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.mark.usefixtures("clean")
def test_forked_children_and_their_parent_share_it(
    make_app: Any, tmp_path: Path, redis_client: Any, namespace: str
) -> None:
    path = str(tmp_path / "spool.db")
    code = textwrap.dedent(FORK.format(namespace=namespace, path=path))
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.getcwd()}, capture_output=True, timeout=60
    )
    assert b"codes {0} 4" in done.stdout, done.stderr
    assert done.stdout.count(b"True") == 2, "each child has a thread of its own that empties the spool"
    app = make_app(spool_path=path)
    assert len(app.sender.spool) in range(5)
    eventually(lambda: sorted(sent(redis_client, namespace)) == [0, 1, 2, 3])
    eventually(lambda: len(app.sender.spool) == 0)


def test_a_child_forked_inside_a_batch_leaves_it_to_its_parent(app: Any, redis_client: Any, namespace: str) -> None:
    @app.task
    def job(n: int) -> None: ...

    with app.batch() as batch:
        job.delay(1)
        if (child := os.fork()) == 0:
            job.delay(2)
            os._exit(0 if len(batch) == 1 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        job.delay(3)
    assert sent(redis_client, namespace) == [1, 3]
    redis_client.delete(f"{namespace}:{{default}}:stream:5")


def test_nobody_else_reads_it(make_app: Any, proxy: FaultProxy, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        app = spooling(make_app, proxy, tmp_path)
        app.task(name="job")(print)
        proxy.refuse()
        app.tasks["job"].delay()
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("spool.db*")}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}
    assert "spool.db-wal" in modes


def test_one_that_was_open_to_others_is_closed_to_them(make_app: Any, proxy: FaultProxy, tmp_path: Path) -> None:
    (tmp_path / "spool.db").touch(0o644)
    assert len(spooling(make_app, proxy, tmp_path).sender.spool) == 0
    assert (tmp_path / "spool.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["spool.db", "spool.db-wal", "spool.db-shm", "spool.db-journal"])
def test_a_link_in_its_place_is_refused(make_app: Any, proxy: FaultProxy, tmp_path: Path, name: str) -> None:
    other = tmp_path / "other"
    other.write_text("precious")
    (tmp_path / name).symlink_to(other)
    with pytest.raises(ConfigError, match="is a link"):
        len(spooling(make_app, proxy, tmp_path).sender.spool)
    assert other.read_text() == "precious"


def test_a_directory_that_everybody_can_write_to_is_refused(make_app: Any, proxy: FaultProxy, tmp_path: Path) -> None:
    (tmp_path / "open" / "below").mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ConfigError, match="chmod o-w"):
        len(spooling(make_app, proxy, tmp_path / "open" / "below").sender.spool)
    (tmp_path / "open").chmod(0o1777)
    assert len(spooling(make_app, proxy, tmp_path / "open" / "below").sender.spool) == 0


def test_in_a_directory_that_everybody_can_write_to_it_has_one_of_its_own(
    make_app: Any, proxy: FaultProxy, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    before = os.umask(0)
    try:
        app = spooling(make_app, proxy, volume)
        job = app.task(name="job")(print)
        proxy.refuse()
        job.delay()
    finally:
        os.umask(before)
    (own,) = volume.iterdir()
    assert own.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in own.iterdir()} == {0o600}
    assert len(spooling(make_app, proxy, volume).sender.spool) == 1, "the next process finds it there"


def test_what_others_may_have_put_in_place_of_its_own_directory_is_refused(
    make_app: Any, proxy: FaultProxy, tmp_path: Path
) -> None:
    volume, elsewhere = tmp_path / "volume", tmp_path / "elsewhere"
    volume.mkdir()
    volume.chmod(0o777)
    elsewhere.mkdir()
    own = volume / f".taskq-{os.geteuid()}"
    own.symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="is a link"):
        len(spooling(make_app, proxy, volume).sender.spool)
    own.unlink()
    own.touch()
    with pytest.raises(ConfigError, match="not a directory"):
        len(spooling(make_app, proxy, volume).sender.spool)
    own.unlink()
    own.mkdir()
    own.chmod(0o777)
    with pytest.raises(ConfigError, match="everybody can write"):
        len(spooling(make_app, proxy, volume).sender.spool)
    if os.geteuid() == 0:
        own.chmod(0o700)
        os.chown(own, 12345, -1)
        with pytest.raises(ConfigError, match="another user"):
            len(spooling(make_app, proxy, volume).sender.spool)
    assert list(elsewhere.iterdir()) == []


def test_a_spool_that_is_there_does_not_move_when_its_directory_is_opened(
    make_app: Any, proxy: FaultProxy, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    assert len(spooling(make_app, proxy, volume).sender.spool) == 0
    volume.chmod(0o777)
    with pytest.raises(ConfigError, match="chmod o-w"):
        len(spooling(make_app, proxy, volume).sender.spool)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused(make_app: Any, proxy: FaultProxy, tmp_path: Path) -> None:
    (tmp_path / "spool.db").touch()
    os.chown(tmp_path / "spool.db", 12345, -1)
    with pytest.raises(ConfigError, match="another user"):
        len(spooling(make_app, proxy, tmp_path).sender.spool)
