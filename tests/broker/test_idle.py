"""The pool of ordinary code: what nobody needs any more is closed, what is in use is not."""

from __future__ import annotations

import os
import threading
from typing import Any

from taskq.broker.link import idle
from taskq.broker.link.address import parse
from taskq.broker.link.idle import KEPT_FOR, Idle
from taskq.broker.link.sync import SyncBroker


class Connection:
    """What a pool keeps."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Clock:
    """Goes forward when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def burst(pool: Idle[Connection], size: int) -> list[Connection]:
    """*size* connections that were needed at once."""
    made = [pool.take() or Connection() for _ in range(size)]
    for each in made:
        pool.give(each)
    return made


def test_what_nobody_has_needed_for_a_while_is_closed_when_another_is_given_back() -> None:
    clock = Clock()
    pool: Idle[Connection] = Idle(clock)
    many = burst(pool, 200)
    assert len(pool) == 200
    clock.now += KEPT_FOR + 1
    (used,) = burst(pool, 1)
    assert used is many[-1]
    assert len(pool) == 1
    assert [each.closed for each in many] == [True] * 199 + [False]


def test_what_a_steady_load_needs_stays_open() -> None:
    clock = Clock()
    pool: Idle[Connection] = Idle(clock)
    many = burst(pool, 20)
    for _ in range(10):
        clock.now += KEPT_FOR / 4
        burst(pool, 5)
    assert [each.closed for each in many] == [True] * 15 + [False] * 5
    assert len(pool) == 5


def test_the_only_one_stays_however_rarely_it_is_used() -> None:
    clock = Clock()
    pool: Idle[Connection] = Idle(clock)
    (first,) = burst(pool, 1)
    clock.now += 100 * KEPT_FOR
    assert burst(pool, 1) == [first]
    assert not first.closed


def test_many_threads_lose_no_connection_of_a_pool_that_closes_all_the_time() -> None:
    ticks = iter(range(10**9))
    pool: Idle[Connection] = Idle(lambda: next(ticks) * KEPT_FOR)
    in_use: set[int] = set()
    wrong: list[str] = []

    def work() -> None:
        for _ in range(2000):
            connection = pool.take() or Connection()
            if id(connection) in in_use or connection.closed:
                wrong.append("given to two, or closed")
            in_use.add(id(connection))
            in_use.remove(id(connection))
            pool.give(connection)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_burst_of_threads_leaves_no_connections_behind(redis_url: str, redis_client: Any, monkeypatch: Any) -> None:
    broker = SyncBroker(parse(redis_url), 5, 5)
    together = threading.Barrier(20)

    def work() -> None:
        broker.call(lambda connection, limit: (connection.execute("PING", deadline=limit), together.wait()))

    before = connections(redis_client)
    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert connections(redis_client) == before + 20
    monkeypatch.setattr(idle, "KEPT_FOR", -1.0)
    broker.execute("PING")
    broker.close()
    assert connections(redis_client) == before


def test_a_fork_leaves_the_parents_connections_open(redis_url: str) -> None:
    broker = SyncBroker(parse(redis_url), 5, 5)
    first = broker.execute("CLIENT", "ID")
    pid = os.fork()
    if not pid:
        os._exit(0 if broker.execute("CLIENT", "ID") != first else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert broker.execute("CLIENT", "ID") == first
    broker.close()


def connections(client: Any) -> int:
    return sum(row["name"] == "taskq-client" for row in client.client_list())
