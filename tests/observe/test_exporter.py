"""``taskq metrics``: what is in Redis, in a bounded number of round trips, and one bad key does not hide the rest."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from support.wait import eventually
from support.worker import running_worker

from taskq.broker import scripts
from taskq.broker.link.sync import SyncConnection
from taskq.client.app import TaskQ
from taskq.embedded import EmbeddedRedis
from taskq.observe.metrics import Exporter, serve
from taskq.observe.metrics.catalogue import CATALOGUE, EXPORTER

MOST_ROUND_TRIPS = 10


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def new_app(url: str, namespace: str = "taskq") -> TaskQ:
    app = TaskQ("test", url, namespace=namespace)
    app.task(name="shop.pay")(lambda: None)
    app.task(name="shop.ship", queue="ships")(lambda: None)
    return app


@pytest.fixture
def app(redis_url: str, namespace: str) -> Iterator[TaskQ]:
    made = new_app(redis_url, namespace)
    yield made
    made.close()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as response:
        text: str = response.read().decode()
        return text


def samples(registry: CollectorRegistry) -> dict[str, float]:
    """Name and labels without ``ns`` -> value, of one scrape."""
    found = {}
    for line in generate_latest(registry).decode().splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[re.sub(r'ns="\w+",?', "", name).replace("{}", "")] = float(value)
    return found


def of_queue(registry: CollectorRegistry, queue: str) -> dict[str, float]:
    wanted = re.compile(rf'taskq_queue_(\w+){{queue="{queue}"}}')
    return {match[1]: value for name, value in samples(registry).items() if (match := wanted.fullmatch(name))}


def test_queues_are_read_at_each_scrape(app: TaskQ, redis_client: Any, registry: CollectorRegistry) -> None:
    Exporter(app, registry)
    assert of_queue(registry, "ships")["lag"] == 0
    app.send_task("shop.ship")
    app.send_task("shop.ship", countdown=60)
    keys = app.keys.queue("ships")
    redis_client.xadd(keys.dead, {"m": b"", "i": b""})
    redis_client.zadd(keys.consumers, {"host:1:aa": 10**13})
    app.pause("ships")
    found = of_queue(registry, "ships")
    assert found.pop("oldest_age_seconds") < 10
    assert found.pop("arrival_rate") > 0
    assert found == {
        "lag": 1,
        "pending": 0,
        "backlog": 1,
        "running": 0,
        "delayed": 1,
        "dead": 1,
        "workers": 1,
        "paused": 1,
        "service_rate": 0,
        "drain_seconds": float("inf"),
        "parked": 0,
    }
    redis_client.delete(keys.stream(5), keys.delayed, keys.consumers, keys.paused)
    assert of_queue(registry, "ships")["backlog"] == 0


def test_what_waits_for_a_rate_limit_is_told_by_task(
    app: TaskQ, redis_client: Any, registry: CollectorRegistry
) -> None:
    Exporter(app, registry)
    keys, name = app.keys.queue("ships"), 'taskq_rate_limit_waiting{queue="ships",task="shop.ship"}'
    assert name not in samples(registry)
    redis_client.sadd(keys.limited, "shop.ship")
    redis_client.rpush(keys.parked("shop.ship"), "a", "b")
    assert samples(registry)[name] == 2
    redis_client.delete(keys.parked("shop.ship"), keys.limited)
    assert samples(registry)[name] == 0


def test_workers_tell_their_slots_and_how_they_are(app: TaskQ, registry: CollectorRegistry) -> None:
    Exporter(app, registry)
    with running_worker(app, queues=["default"], concurrency=3) as running:
        worker = running.consumer.decode().rpartition(":")[0]
        app.tasks["shop.pay"].delay()

        def found() -> dict[str, float]:
            return {name.replace(worker, "w"): value for name, value in samples(registry).items()}

        eventually(lambda: found().get('taskq_worker_slots{kind="ordinary",worker="w"}') == 3)
        eventually(lambda: found()['taskq_queue_service_rate{queue="default"}'] > 0)
        seen = found()
        assert seen['taskq_worker_rss_bytes{worker="w"}'] > 1e6
        assert 0 <= seen['taskq_worker_heartbeat_age_seconds{worker="w"}'] < 15
        assert seen["taskq_redis_memory_bytes"] > 0


def test_every_metric_is_in_the_catalogue(app: TaskQ, registry: CollectorRegistry) -> None:
    Exporter(app, registry)
    found = set(re.findall(r"^# TYPE (\w+) (\w+)", generate_latest(registry).decode(), re.MULTILINE))
    assert found == {(spec.name, spec.kind) for spec in CATALOGUE if spec.place == EXPORTER}


def test_a_scrape_of_a_hundred_queues_takes_few_round_trips(
    app: TaskQ, redis_client: Any, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_client.sadd(app.keys.queues, *(f"q{number}" for number in range(100)))
    for number in range(100):
        redis_client.zadd(app.keys.queue(f"q{number}").consumers, {f"host:{number}:aa": 10**13})
    counted = 0
    exchange = SyncConnection._exchange_many

    def counting(*args: Any) -> Any:
        nonlocal counted
        counted += 1
        return exchange(*args)

    monkeypatch.setattr(SyncConnection, "_exchange_many", counting)
    Exporter(app, registry)
    found = samples(registry)
    assert found["taskq_scrape_round_trips"] == counted <= MOST_ROUND_TRIPS
    assert sum(name.startswith("taskq_queue_lag{") for name in found) == 102
    for number in range(100):
        redis_client.delete(app.keys.queue(f"q{number}").consumers)


def test_one_bad_key_does_not_hide_the_rest(app: TaskQ, redis_client: Any, registry: CollectorRegistry) -> None:
    redis_client.sadd(app.keys.queues, "bad")
    redis_client.set(app.keys.queue("bad").delayed, "not ours", px=60_000)
    redis_client.set(app.keys.queue("bad").consumers, "not ours either", px=60_000)
    Exporter(app, registry)
    assert of_queue(registry, "ships")["lag"] == 0
    assert of_queue(registry, "bad")["lag"] == 0, "what can be read of it is shown"
    assert samples(registry)["taskq_up"] == 1
    redis_client.delete(app.keys.queue("bad").consumers)


def test_a_server_that_forgot_its_scripts_is_asked_all_the_same(
    app: TaskQ, redis_client: Any, registry: CollectorRegistry
) -> None:
    Exporter(app, registry)
    before = len(of_queue(registry, "ships"))
    redis_client.script_flush()
    assert len(of_queue(registry, "ships")) == before > 0
    redis_client.script_load(scripts.STATS.text)


def test_an_outage_is_a_metric_and_no_error(
    private_redis: Callable[..., EmbeddedRedis], tmp_path: Path, registry: CollectorRegistry
) -> None:
    server = private_redis(tmp_path / "redis")
    app = new_app(server.url)
    Exporter(app, registry)
    endpoint = serve(registry)
    try:
        assert 'taskq_up{ns="taskq"} 1.0' in get(endpoint.url)
        server.stop()
        text = get(endpoint.url)
        assert 'taskq_up{ns="taskq"} 0.0' in text
        assert "taskq_queue_lag{" not in text
        server.start()
        assert 'taskq_up{ns="taskq"} 1.0' in get(endpoint.url)
    finally:
        endpoint.close()
        app.close()


def test_registering_needs_no_redis() -> None:
    checked = CollectorRegistry(auto_describe=True)
    Exporter(new_app("redis://127.0.0.1:1/0"), checked)
    with pytest.raises(ValueError, match="Duplicated"):
        Exporter(new_app("redis://127.0.0.1:1/0"), checked)
