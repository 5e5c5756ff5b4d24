"""Metrics: what is counted, summed over processes, read from Redis, and served."""

from __future__ import annotations

import re
import secrets
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from support.process import ROOT, Proc
from support.programs import require
from support.wait import eventually, wait_for_line
from support.worker import running_worker

from taskq.client.app import TaskQ
from taskq.client.hooks import Settled, Unusual
from taskq.errors import BrokerUnavailableError, ConfigError
from taskq.observe.metrics import (
    BeatMetrics,
    Exporter,
    SenderMetrics,
    SharedMetrics,
    WorkerMetrics,
    aggregate,
    document,
    serve,
)
from taskq.observe.metrics.catalogue import CATALOGUE, EXPORTER, MOST_SERIES, counters, gauges
from taskq.observe.metrics.snapshot import BUCKETS


def new_app(url: str | None = None, namespace: str = "taskq") -> TaskQ:
    app = TaskQ("test", url, namespace=namespace)
    app.task(name="shop.pay")(lambda: None)
    app.task(name="shop.ship", queue="ships")(lambda: None)
    return app


def settled(task: str = "shop.pay", state: str = "SUCCESS", runtime: float = 0.02, wait: float = 2) -> Settled:
    started = int(runtime > 0)
    return Settled(task, "default", state, 1, started, runtime, 1, [(runtime, wait)] * started)


def value(registry: CollectorRegistry, name: str, *, ns: str = "taskq", **labels: str) -> float | None:
    return registry.get_sample_value(name, {"ns": ns, **labels})


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as response:
        text: str = response.read().decode()
        return text


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def app(redis_url: str, namespace: str) -> Iterator[TaskQ]:
    made = new_app(redis_url, namespace)
    yield made
    made.close()


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
    app.hooks.emit("settled", [settled(runtime=0.01, wait=3), settled(runtime=0.011, wait=0)])
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


def test_one_of_a_large_batch_stands_for_its_neighbours(registry: CollectorRegistry) -> None:
    app = new_app()
    WorkerMetrics(app, registry)
    times = [(0.02, 0.5), (0.02, 0.5), (3.0, 0.5)]
    app.hooks.emit("settled", [Settled("shop.pay", "default", "SUCCESS", 20, 20, 12.5, 8, times)])
    labels = {"task": "shop.pay", "queue": "default"}
    assert value(registry, "taskq_task_runtime_seconds_bucket", **labels, le="0.025") == 16
    assert value(registry, "taskq_task_runtime_seconds_count", **labels) == 20
    assert value(registry, "taskq_task_runtime_seconds_sum", **labels) == 12.5
    assert value(registry, "taskq_task_wait_seconds_sum", **labels) == 10
    assert value(registry, "taskq_task_starts_total", **labels) == 20


def test_crashes_lateness_and_traces_are_told_of_those_that_have_them(registry: CollectorRegistry) -> None:
    app = new_app()
    WorkerMetrics(app, registry)
    rare = Unusual(crashes=2, late=0.7, trace="4bf92f3577b34da6a3ce929d0e0e4736", runtime=3, wait=1)
    app.hooks.emit("settled", [settled(), settled(runtime=3)._replace(unusual=[rare])])
    labels = {"task": "shop.pay", "queue": "default"}
    assert value(registry, "taskq_task_crashes_total", **labels) == 2
    assert value(registry, "taskq_task_starts_total", **labels) == 2
    assert value(registry, "taskq_task_punctuality_seconds_count", **labels) == 1
    assert value(registry, "taskq_task_punctuality_seconds_sum", **labels) == 0.7
    text = openmetrics(registry).decode()
    (line,) = [line for line in text.splitlines() if "runtime_seconds_bucket" in line and "trace_id" in line]
    assert 'le="5.0"' in line
    assert '{trace_id="4bf92f3577b34da6a3ce929d0e0e4736"} 3.0' in line


def test_what_a_real_worker_ran_is_told(app: TaskQ, registry: CollectorRegistry, namespace: str) -> None:
    WorkerMetrics(app, registry)
    late = app.tasks["shop.pay"].options(
        countdown=0.05, headers={"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
    )
    with running_worker(app, queues=["default"]):
        late.delay().get(timeout=30)
        labels = {"ns": namespace, "task": "shop.pay", "queue": "default"}
        eventually(lambda: value(registry, "taskq_task_punctuality_seconds_count", **labels) == 1)
        eventually(lambda: value(registry, "taskq_broker_roundtrip_seconds_count", ns=namespace))
    assert value(registry, "taskq_enqueued_total", ns=namespace, queue="default") == 1
    assert "a" * 32 in openmetrics(registry).decode()


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
    aggregate(tmp_path, "taskq", registry)
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
from taskq.client.app import TaskQ
from taskq.client.hooks import Settled
from taskq.observe.metrics import SharedMetrics, WorkerMetrics

app = TaskQ("child")
app.task(name="shop.pay")(lambda: None)
shared = SharedMetrics(WorkerMetrics(app), sys.argv[1])
app.hooks.emit("settled", [Settled("shop.pay", "default", "SUCCESS", 5, 5, 0.5, 1, [(0.1, 0.1)] * 5)])
print("counted", flush=True)
import threading
threading.Event().wait()
"""


def test_the_numbers_of_a_killed_child_stay(
    spawn: Callable[..., Proc], tmp_path: Path, registry: CollectorRegistry
) -> None:
    directory = tmp_path / "shared"
    directory.mkdir()
    children = aggregate(directory, "taskq", registry)

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


# --- what a process sends ---


def test_what_is_sent_is_counted_and_timed(make_app: Callable[..., TaskQ], registry: CollectorRegistry) -> None:
    app = make_app(namespace=(ns := f"t{secrets.token_hex(6)}"))
    app.task(name="shop.pay")(lambda: None)
    SenderMetrics(app, registry)
    app.tasks["shop.pay"].delay()
    app.tasks["shop.pay"].delay_many([(), ()])
    assert value(registry, "taskq_enqueued_total", ns=ns, queue="default") == 3
    assert value(registry, "taskq_enqueue_seconds_count", ns=ns, queue="default") == 2
    assert value(registry, "taskq_enqueue_spooled", ns=ns) == 0
    app.purge("default")


def test_calls_that_raise_and_what_waits_in_the_spool_are_counted(tmp_path: Path, registry: CollectorRegistry) -> None:
    settings = {"broker_deadline": 0.05, "spool_path": str(tmp_path / "spool")}
    app = TaskQ("test", "redis://127.0.0.1:1/0", **settings)
    app.task(name="kept")(lambda: None)
    app.task(name="raises", when_unavailable="raise")(lambda: None)
    SenderMetrics(app, registry)
    app.tasks["kept"].delay()
    with pytest.raises(BrokerUnavailableError):
        app.tasks["raises"].delay()
    assert value(registry, "taskq_enqueue_spooled") == 1
    assert value(registry, "taskq_enqueued_total", queue="default") == 1
    assert value(registry, "taskq_enqueue_errors_total", queue="default") == 1
    app.close()


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


def exposed(app: TaskQ) -> str:
    """A scrape of a worker's metrics, with samples of each."""
    registry = CollectorRegistry()
    WorkerMetrics(app, registry)
    app.hooks.emit("settled", [settled(), settled(state="RETRY")])
    app.hooks.emit("recovered", "default", 1)
    app.hooks.emit("lease_lost", "default")
    app.hooks.emit("unknown_task", "default", "what.is.it")
    app.hooks.emit("sent", "default", 1, 0.1)
    app.hooks.emit("send_failed", "default")
    return generate_latest(registry).decode()


def test_every_metric_of_a_worker_is_in_the_catalogue() -> None:
    found = set(re.findall(r"^# TYPE (\w+) (\w+)", exposed(new_app()), re.MULTILINE))
    assert found == {(spec.name, spec.kind) for spec in CATALOGUE if spec.place != EXPORTER}


def test_the_page_about_metrics_is_that_of_the_catalogue() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    assert page == document.text(), "run python -m taskq.observe.metrics.document docs/metrics.md"


def test_names_and_help_are_as_prometheus_wants_them(app: TaskQ) -> None:
    registry = CollectorRegistry()
    Exporter(app, registry)
    text = exposed(app) + generate_latest(registry).decode()
    done = subprocess.run(
        [require("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_buckets_ascend() -> None:
    assert list(BUCKETS) == sorted(set(BUCKETS))


def test_names_without_end_are_bounded(app: TaskQ) -> None:
    """Of schedules and queues, whose names a program may make up; their sums stay what they were."""
    sender, beat = SenderMetrics(app), BeatMetrics(app)
    for n in range(2 * MOST_SERIES):
        app.hooks.emit("sent", f"queue{n}", 1, 0.1)
        app.hooks.emit("send_failed", f"queue{n}")
        app.hooks.emit("schedule_fired", f"schedule{n}", "q", 0, 0.1)
    for metrics, most in ((sender, MOST_SERIES + 1), (beat, MOST_SERIES + 1)):
        for series in metrics.snapshot().numbers.values():
            assert len({labels[0] for labels in series if labels}) <= most
    counted = sender.snapshot().numbers["taskq_enqueued_total"]
    assert sum(value for (value,) in counted.values()) == 2 * MOST_SERIES
    assert counted["other",] == [MOST_SERIES]
    rows = [((f"schedule{n}",), float(n)) for n in range(2 * MOST_SERIES)]
    samples = gauges("taskq_schedule_overdue_seconds", "ns", rows).samples
    assert len(samples) == MOST_SERIES + 1
    assert (samples[-1].labels["schedule"], samples[-1].value) == ("other", 2 * MOST_SERIES - 1)
    summed = counters("taskq_topic_published_total", "ns", [((f"t{n}",), 1.0) for n in range(2 * MOST_SERIES)]).samples
    assert summed[-1].value == MOST_SERIES


@pytest.mark.parametrize("name", ['a"b', "a\nb", "a\\b", 'a\\"\n# HELP x', "\u202e"], ids=ascii)
def test_label_values_are_escaped(app: TaskQ, name: str) -> None:
    registry = CollectorRegistry()
    SenderMetrics(app, registry)
    app.hooks.emit("sent", name, 1, 0.1)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    found = {sample.labels["queue"] for family in families for sample in family.samples if "queue" in sample.labels}
    assert found == {name}
