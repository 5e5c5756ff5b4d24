"""``reconfigure`` reaches every connection, or is refused: never ignored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from taskq import TaskQ
from taskq.errors import ConfigError


def test_connections_that_were_used_are_not_changed_in_silence(private_redis: Callable[..., Any]) -> None:
    one, other = private_redis(), private_redis()
    app = TaskQ("test", one.url)
    task = app.task(name="t")(lambda: None)
    task.delay()
    for settings in ({"broker_url": other.url}, {"namespace": "else"}, {"spool_path": "/nowhere"}):
        with pytest.raises(ConfigError, match=r"used its connections already.*app\.close\(\)"):
            app.reconfigure(**settings)
    assert app.config.broker_url == one.url
    app.reconfigure(worker_concurrency=3, broker_url=one.url)
    assert app.config.worker_concurrency == 3
    assert (app.dlq.count("default"), [queue.lag for queue in app.queues()]) == (0, [1])
    app.close()
    app.reconfigure(broker_url=other.url)
    assert [queue.lag for queue in app.queues()] == [0]
    task.delay()
    task.delay()
    assert [queue.lag for queue in app.queues()] == [2]
    assert app.dlq.count("default") == 0
    app.close()


def test_before_the_first_use_everything_can_change(private_redis: Callable[..., Any]) -> None:
    one = private_redis()
    app = TaskQ("test", "redis://localhost:1/0")
    app.reconfigure(broker_url=one.url, namespace="other")
    app.task(name="t")(lambda: None).delay()
    assert app.sync_broker.execute("EXISTS", b"other:{default}:stream:5")
    app.close()


@pytest.mark.parametrize(
    "use", [lambda app: app.dlq, lambda app: app.queue("f"), lambda app: app.jobs, lambda app: app.listeners]
)
def test_what_holds_names_of_keys_counts_as_used(use: Callable[[TaskQ], object]) -> None:
    app = TaskQ("test", "redis://localhost:1/0")
    use(app)
    with pytest.raises(ConfigError, match="namespace cannot change"):
        app.reconfigure(namespace="other")
