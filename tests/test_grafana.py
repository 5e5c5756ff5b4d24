"""The dashboards: as generated, and every expression answered by a real Prometheus."""

from __future__ import annotations

import importlib.util
import json
import re
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from support.process import ROOT
from support.programs import require
from support.wait import eventually

from taskq.app import TaskQ
from taskq.hooks import Settled
from taskq.metrics import Exporter, WorkerMetrics, serve

GRAFANA = ROOT / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
SCRAPE_SECONDS = 1


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("grafana_generate", GRAFANA / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_committed_dashboards_are_what_the_generator_writes() -> None:
    module = generator()
    generated = {name: module.text_of(dashboard) for name, dashboard in module.dashboards().items()}
    assert {file.name: file.read_text("utf-8") for file in DASHBOARDS} == generated


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_panels_are_laid_out_and_templated(file: Path) -> None:
    dashboard = json.loads(file.read_text("utf-8"))
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    cells = [
        (x, y)
        for panel in dashboard["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells), "panels overlap"
    assert max(x for x, _ in cells) < 24
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "queue"]
    for panel in panels(dashboard):
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert "$queue" in target["expr"] or "taskq_up" in target["expr"]


class Prometheus:
    """The HTTP API of a running Prometheus."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._base}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def query(self, expression: str) -> list[Any]:
        """The result vector; fails the test when Prometheus refuses the expression."""
        parameters = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"{self._base}/api/v1/query?{parameters}", timeout=10) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            pytest.fail(f"{expression}: {error.read().decode()}")
        result: list[Any] = answer["data"]["result"]
        return result


@pytest.fixture
def app(redis_url: str, namespace: str) -> Iterator[TaskQ]:
    made = TaskQ("test", redis_url, namespace=namespace)
    made.task(name="shop.pay")(lambda: None)
    yield made
    made.close()


@pytest.fixture
def targets(app: TaskQ) -> Iterator[list[int]]:
    """The ports of a queue exporter and of a worker's endpoint."""
    queues, worker = CollectorRegistry(), CollectorRegistry()
    Exporter(app, queues)
    WorkerMetrics(app, worker)
    endpoints = [serve(queues), serve(worker)]
    yield [endpoint.port for endpoint in endpoints]
    for endpoint in endpoints:
        endpoint.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def prometheus(targets: list[int], tmp_path: Path) -> Iterator[Prometheus]:
    program = require("prometheus")
    config = tmp_path / "prometheus.yaml"
    addresses = ", ".join(f'"127.0.0.1:{port}"' for port in targets)
    config.write_text(
        f"global: {{scrape_interval: {SCRAPE_SECONDS}s}}\n"
        f"scrape_configs: [{{job_name: taskq, static_configs: [{{targets: [{addresses}]}}]}}]\n"
    )
    port = free_port()
    with (tmp_path / "prometheus.txt").open("wb") as output:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        server = Prometheus(port)
        eventually(server.ready, 30, lambda: (tmp_path / "prometheus.txt").read_text())
        yield server
    finally:
        process.kill()
        process.wait()


def expressions() -> list[str]:
    """Every expression of every panel and of the README's alerts, with Grafana's variables filled in."""
    found = [
        target["expr"]
        for file in DASHBOARDS
        for panel in panels(json.loads(file.read_text("utf-8")))
        for target in panel["targets"]
    ]
    return [
        expression.replace("$queue", ".*").replace("$__rate_interval", f"{10 * SCRAPE_SECONDS}s")
        for expression in found
    ]


def alerts() -> list[str]:
    (block,) = re.findall(r"```promql\n(.*?)```", (GRAFANA / "README.md").read_text("utf-8"), re.DOTALL)
    lines = re.sub(r" +#.*", "", block).replace("\n  ", " ")
    return [line for line in lines.splitlines() if line]


@pytest.mark.slow
def test_prometheus_answers_every_expression(app: TaskQ, prometheus: Prometheus) -> None:
    asked = expressions()
    assert len(asked) > 20

    def work() -> None:
        states = ("SUCCESS", "FAILURE", "RETRY")
        app.hooks.emit("settled", [Settled("shop.pay", "default", state, 0.1, 0.2) for state in states])
        app.hooks.emit("recovered", "default", 1)
        app.hooks.emit("lease_lost", "default")
        app.hooks.emit("unknown_task", "default", "shop.other")

    def unanswered() -> list[str]:
        work()
        return [expression for expression in asked if not prometheus.query(expression)]

    work()
    eventually(lambda: not unanswered(), 30, lambda: f"no data for {unanswered()}")
    assert len(alerts()) == 4
    for alert in alerts():
        prometheus.query(alert)
