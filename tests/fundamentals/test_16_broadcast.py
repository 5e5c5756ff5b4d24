"""Live broadcast: to every worker process that is connected, and remembered by nobody."""

from __future__ import annotations

from typing import Any

import pytest
from support.wait import eventually
from support.worker import run_async, running_worker

from taskq import ConfigError, SerializationError, TaskQ


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


def test_what_cannot_be_used(app: TaskQ) -> None:
    with pytest.raises(ConfigError, match="broadcast's name"):
        app.broadcast("a b")
    with pytest.raises(ConfigError, match="broadcast's name"):
        app.on_broadcast("")
    with pytest.raises(ConfigError, match="wants a function"):
        app.on_broadcast("a")(5)  # type: ignore[type-var]
    with pytest.raises(SerializationError):
        app.broadcast("a", object())
