"""A real Prometheus, and the expressions of our dashboards."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support.process import ROOT
from support.programs import require
from support.wait import eventually

GRAFANA = ROOT / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
RULES = sorted(file for file in (GRAFANA / "rules").glob("*.yaml") if not file.name.endswith(".test.yaml"))
SCRAPE_SECONDS = 1


class Asked(NamedTuple):
    """One expression of one panel."""

    dashboard: str
    panel: str
    expression: str


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels that show something."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions() -> list[Asked]:
    """Every expression of every panel."""
    found = []
    for file in DASHBOARDS:
        dashboard = json.loads(file.read_text("utf-8"))
        for panel in panels(dashboard):
            found += [Asked(dashboard["title"], panel["title"], target["expr"]) for target in panel["targets"]]
    return found


def filled(expression: str, ns: str) -> str:
    """*expression* with Grafana's variables filled in."""
    for name, value in (
        ("$queue", ".*"),
        ("$task", ".*"),
        ("$ns", ns),
        ("$__rate_interval", f"{8 * SCRAPE_SECONDS}s"),
    ):
        expression = expression.replace(name, value)
    return expression


class Prometheus:
    """The HTTP API of a running Prometheus."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._base}/-/ready", timeout=30):
                return True
        except OSError:
            return False

    def query(self, expression: str) -> list[Any]:
        """The result vector; fails the test when Prometheus refuses the expression."""
        parameters = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"{self._base}/api/v1/query?{parameters}", timeout=30) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            pytest.fail(f"{expression}: {error.read().decode()}")
        result: list[Any] = answer["data"]["result"]
        return result


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_prometheus(directory: Path, targets: Sequence[str]) -> Iterator[Prometheus]:
    """A Prometheus that scrapes *targets* (``host:port``) every second and evaluates our rules."""
    config = directory / "prometheus.yaml"
    config.write_text(
        f"global: {{scrape_interval: {SCRAPE_SECONDS}s, evaluation_interval: {SCRAPE_SECONDS}s}}\n"
        f"rule_files: {json.dumps([str(file) for file in RULES])}\n"
        f"scrape_configs: [{{job_name: taskq, static_configs: [{{targets: {json.dumps(list(targets))}}}]}}]\n"
    )
    port = free_port()
    with (directory / "prometheus.txt").open("wb") as output:
        process = subprocess.Popen(
            [
                require("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        server = Prometheus(port)
        eventually(server.ready, 30, lambda: (directory / "prometheus.txt").read_text())
        yield server
    finally:
        process.kill()
        process.wait()
