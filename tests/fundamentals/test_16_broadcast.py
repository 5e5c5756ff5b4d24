"""Live broadcast: to every worker process that is connected, and remembered by nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.wait import eventually
from support.worker import run_async, running_worker

from taskq import ConfigError, SerializationError, TaskQ
from taskq.broker.keys import Keys


def test_every_connected_worker_gets_it(app: TaskQ, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []

    @app.on_broadcast("cache.invalidate")
    def forget(payload: Any) -> None:
        seen.append(("sync", payload))

    @app.on_broadcast("cache.invalidate")
    async def also(payload: Any) -> None:
        seen.append(("async", payload))

    @app.on_broadcast("cache.invalidate")
    def broken(payload: Any) -> None:
        raise ValueError("no such cache")

    assert app.broadcast("cache.invalidate", 0) == 0, "nobody is there, and nobody will hear of it"
    with running_worker(app), running_worker(app):
        eventually(lambda: app.broadcast("cache.invalidate", 1) == 2)
        eventually(lambda: min(seen.count(("sync", 1)), seen.count(("async", 1))) >= 2)
        assert run_async(app, app.abroadcast("cache.invalidate", {"key": "k"})) == 2
        eventually(lambda: seen.count(("sync", {"key": "k"})) == 2)
        assert app.broadcast("other") == 0
        eventually(lambda: "no such cache" in caplog.text)
    assert all(payload != 0 for _, payload in seen)


def test_it_stays_in_its_database(make_app: Callable[..., TaskQ], redis_url: str) -> None:
    there = redis_url.rpartition("/")[0] + "/1"
    here, elsewhere = make_app(), make_app(broker_url=there)
    seen: list[Any] = []
    for app in (here, elsewhere):
        app.on_broadcast("cache")(seen.append)
    with running_worker(elsewhere):
        eventually(lambda: elsewhere.broadcast("cache", "there") == 1)
        assert here.broadcast("cache", "here") == 0
        eventually(lambda: seen == ["there"])
    elsewhere.sync_broker.execute("FLUSHDB")


def test_every_channel_carries_its_database() -> None:
    plain, other = Keys("ns"), Keys("ns", 3)
    for keys, end in ((plain, b""), (other, b"@3")):
        assert keys.queue("q").wake == b"ns:{q}:wake" + end
        assert keys.queue("t/g").wake == b"ns:{t/}:g:wake" + end
        assert keys.topic("t").published == b"ns:{t/}:published" + end
        assert keys.schedules.wake == b"ns:{schedules}:wake" + end
        assert keys.broadcast("b") == b"ns:broadcast:b" + end
        assert keys.client("c") == b"ns:client:c" + end
    assert plain.queue("q").delayed == other.queue("q").delayed


def test_what_cannot_be_used(app: TaskQ) -> None:
    with pytest.raises(ConfigError, match="broadcast's name"):
        app.broadcast("a b")
    with pytest.raises(ConfigError, match="broadcast's name"):
        app.on_broadcast("")
    with pytest.raises(ConfigError, match="wants a function"):
        app.on_broadcast("a")(5)  # type: ignore[type-var]
    with pytest.raises(SerializationError):
        app.broadcast("a", object())
