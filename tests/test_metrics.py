"""Metrics: what is counted, summed over processes, read from Redis, and served."""

from __future__ import annotations

import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from support.process import Proc
from support.programs import require
from support.wait import eventually, wait_for_line

import taskq.metrics
from taskq.app import TaskQ
from taskq.embedded import EmbeddedRedis
from taskq.errors import ConfigError
from taskq.hooks import Settled
from taskq.metrics import QueueCollector, SharedMetrics, WorkerMetrics, aggregate, serve
from taskq.metrics.snapshot import BUCKETS


def new_app(url: str | None = None, namespace: str = "taskq") -> TaskQ:
    app = TaskQ("test", url, namespace=namespace)
    app.task(name="shop.pay")(lambda: None)
    app.task(name="shop.ship", queue="ships")(lambda: None)
    return app


def settled(task: str = "shop.pay", state: str = "SUCCESS", runtime: float = 0.02, wait: float = 2) -> Settled:
    return Settled(task, "default", state, runtime, wait)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        text: str = response.read().decode()
        return text


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


# --- what a worker counts ---


def test_outcomes_are_counted_by_state(registry: CollectorRegistry) -> None:
    app = new_app()
    WorkerMetrics(app, registry)
    app.hooks.emit("settled", [settled(), settled(), settled(state="FAILURE"), settled(state="RETRY")])
    app.hooks.emit("settled", [settled(state="RETRY")])
    labels = {"task": "shop.pay", "queue": "default"}
    counts = {
        state: value(registry, "taskq_tasks_total", **labels, state=state)
        for state in ("SUCCESS", "FAILURE", "RETRY", "EXPIRED")
    }
    assert counts == {"SUCCESS": 2, "FAILURE": 1, "RETRY": 2, "EXPIRED": None}
    assert value(registry, "taskq_task_retries_total", **labels) == 2


def test_runtime_and_wait_are_histograms(registry: CollectorRegistry) -> None:
    app = new_app()
    WorkerMetrics(app, registry)
    app.hooks.emit("settled", [settled(runtime=0.01, wait=3), settled(runtime=0.011, wait=-0.5)])
    app.hooks.emit("settled", [settled(runtime=10_000, wait=0)])
    labels = {"task": "shop.pay", "queue": "default"}

    def runtime(le: str) -> float | None:
        return value(registry, "taskq_task_runtime_seconds_bucket", **labels, le=le)

    assert [runtime("0.005"), runtime("0.01"), runtime("0.025")] == [0, 1, 2]
    assert [runtime("7200.0"), runtime("+Inf")] == [2, 3]
    assert value(registry, "taskq_task_runtime_seconds_sum", **labels) == pytest.approx(10_000.021)
    assert value(registry, "taskq_task_runtime_seconds_count", **labels) == 3
    assert value(registry, "taskq_task_wait_seconds_sum", **labels) == 3
    assert value(registry, "taskq_task_wait_seconds_count", **labels) == 3


def test_what_did_not_start_has_no_runtime(registry: CollectorRegistry) -> None:
    app = new_app()
    WorkerMetrics(app, registry)
    app.hooks.emit("settled", [settled(state="RELEASED", runtime=0), settled(state="EXPIRED", runtime=0)])
    labels = {"task": "shop.pay", "queue": "default"}
    assert value(registry, "taskq_task_runtime_seconds_count", **labels) == 0
    assert value(registry, "taskq_task_wait_seconds_count", **labels) == 0


def test_unknown_task_names_share_one_label(registry: CollectorRegistry) -> None:
    app = new_app()
    WorkerMetrics(app, registry)
    app.hooks.emit("settled", [settled(f"from.outside.{number}", "FAILURE") for number in range(500)])
    assert value(registry, "taskq_tasks_total", task="other", queue="default", state="FAILURE") == 500
    assert b"outside" not in generate_latest(registry)


def test_trouble_is_counted_by_queue(registry: CollectorRegistry) -> None:
    app = new_app()
    WorkerMetrics(app, registry)
    app.hooks.emit("recovered", "default", 7)
    app.hooks.emit("lease_lost", "default")
    app.hooks.emit("unknown_task", "default", "what.is.it")
    app.hooks.emit("unknown_task", "default", "what.is.that")
    found = [
        value(registry, f"taskq_{name}_total", queue="default")
        for name in ("redelivered", "lease_lost", "unknown_tasks")
    ]
    assert found == [7, 1, 2]


# --- several processes, one endpoint ---


def test_children_are_summed(tmp_path: Path, registry: CollectorRegistry) -> None:
    aggregate(tmp_path, registry)
    for _ in range(3):
        app = new_app()
        shared = SharedMetrics(WorkerMetrics(app), tmp_path)
        app.hooks.emit("settled", [settled(runtime=0.5)] * 10)
        app.hooks.emit("recovered", "default", 1)
        shared.close()
    labels = {"task": "shop.pay", "queue": "default"}
    assert value(registry, "taskq_tasks_total", **labels, state="SUCCESS") == 30
    assert value(registry, "taskq_task_runtime_seconds_sum", **labels) == 15
    assert value(registry, "taskq_task_runtime_seconds_bucket", **labels, le="0.5") == 30
    assert value(registry, "taskq_redelivered_total", queue="default") == 3


CHILD = """
import sys
from taskq.app import TaskQ
from taskq.hooks import Settled
from taskq.metrics import SharedMetrics, WorkerMetrics

app = TaskQ("child")
app.task(name="shop.pay")(lambda: None)
shared = SharedMetrics(WorkerMetrics(app), sys.argv[1])
app.hooks.emit("settled", [Settled("shop.pay", "default", "SUCCESS", 0.1, 0.1)] * 5)
print("counted", flush=True)
import threading
threading.Event().wait()
"""


def test_the_numbers_of_a_killed_child_stay(
    spawn: Callable[..., Proc], tmp_path: Path, registry: CollectorRegistry
) -> None:
    directory = tmp_path / "shared"
    directory.mkdir()
    children = aggregate(directory, registry)

    def total() -> float | None:
        return value(registry, "taskq_tasks_total", task="shop.pay", queue="default", state="SUCCESS")

    # with the variable of prometheus_client's own multi-process mode, which must not matter to us
    child = spawn("-c", CHILD, str(directory), env={"PROMETHEUS_MULTIPROC_DIR": str(directory)})
    wait_for_line(child, "counted")
    eventually(lambda: total() == 5)
    child.kill()
    assert total() == 5
    children.retire(child.pid)
    assert total() == 5
    assert not list(directory.glob(f"{child.pid}-*.metrics"))
    second = spawn("-c", CHILD, str(directory))
    eventually(lambda: total() == 10)
    second.kill()


# --- what is in the queues ---


@pytest.fixture
def app(redis_url: str, namespace: str) -> Iterator[TaskQ]:
    made = new_app(redis_url, namespace)
    yield made
    made.close()


def test_queues_are_read_at_each_scrape(app: TaskQ, redis_client: Any, registry: CollectorRegistry) -> None:
    QueueCollector(app, registry)
    assert value(registry, "taskq_queue_lag", queue="ships") == 0
    assert value(registry, "taskq_queue_oldest_age_seconds", queue="ships") == 0
    app.send_task("shop.ship")
    app.send_task("shop.ship", countdown=60)
    keys = app.keys.queue("ships")
    redis_client.xadd(keys.dead, {"m": b"", "i": b""})
    redis_client.zadd(keys.consumers, {"worker": 10**13})
    found = {
        name: value(registry, f"taskq_queue_{name}", queue="ships")
        for name in ("lag", "pending", "backlog", "delayed", "dead", "workers")
    }
    assert found == {"lag": 1, "pending": 0, "backlog": 1, "delayed": 1, "dead": 1, "workers": 1}
    assert value(registry, "taskq_up") == 1
    redis_client.xtrim(keys.stream(5), maxlen=0)
    redis_client.delete(keys.delayed, keys.consumers)
    assert value(registry, "taskq_queue_backlog", queue="ships") == 0


def test_queues_of_other_apps_in_the_namespace_are_there(
    app: TaskQ, redis_client: Any, registry: CollectorRegistry
) -> None:
    redis_client.sadd(app.keys.queues, "elsewhere")
    QueueCollector(app, registry)
    assert value(registry, "taskq_queue_backlog", queue="elsewhere") == 0


def test_an_outage_is_a_metric_and_no_error(
    private_redis: Callable[..., EmbeddedRedis], tmp_path: Path, registry: CollectorRegistry
) -> None:
    server = private_redis(tmp_path / "redis")
    app = new_app(server.url)
    QueueCollector(app, registry)
    endpoint = serve(registry)
    try:
        assert "taskq_up 1.0" in get(endpoint.url)
        server.stop()
        text = get(endpoint.url)
        assert "taskq_up 0.0" in text
        assert "taskq_queue_lag{" not in text
        server.start()
        assert "taskq_up 1.0" in get(endpoint.url)
    finally:
        endpoint.close()
        app.close()


def test_registering_needs_no_redis(registry: CollectorRegistry) -> None:
    checked = CollectorRegistry(auto_describe=True)
    QueueCollector(new_app("redis://127.0.0.1:1/0"), checked)
    with pytest.raises(ValueError, match="Duplicated"):
        QueueCollector(new_app("redis://127.0.0.1:1/0"), checked)


# --- the endpoint ---


def test_the_endpoint_is_for_this_machine_unless_widened(registry: CollectorRegistry) -> None:
    endpoint = serve(registry)
    try:
        assert endpoint.url == f"http://127.0.0.1:{endpoint.port}/metrics"
        with pytest.raises(ConfigError, match=f"127.0.0.1:{endpoint.port}"):
            serve(registry, port=endpoint.port)
    finally:
        endpoint.close()


# --- names ---


def everything(app: TaskQ) -> str:
    """A scrape of all metrics, with samples of each."""
    registry = CollectorRegistry()
    WorkerMetrics(app, registry)
    QueueCollector(app, registry)
    app.hooks.emit("settled", [settled(), settled(state="RETRY")])
    app.hooks.emit("recovered", "default", 1)
    app.hooks.emit("lease_lost", "default")
    app.hooks.emit("unknown_task", "default", "what.is.it")
    return generate_latest(registry).decode()


def test_the_table_in_the_documentation_is_complete(app: TaskQ) -> None:
    documented = re.findall(r"^``(taskq_\w+)`` +(\w+)", taskq.metrics.__doc__ or "", re.MULTILINE)
    exposed = re.findall(r"^# TYPE (\w+) (\w+)", everything(app), re.MULTILINE)
    assert sorted(exposed) == sorted(documented)


def test_names_and_help_are_as_prometheus_wants_them(app: TaskQ) -> None:
    text = everything(app)
    done = subprocess.run(
        [require("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_buckets_ascend() -> None:
    assert list(BUCKETS) == sorted(set(BUCKETS))
