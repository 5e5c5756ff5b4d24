"""``docker-compose.yml``: commands are commands, mounted files are there, nothing listens beyond this machine."""

from __future__ import annotations

import shlex
import subprocess
from typing import Any

import click
import pytest
import yaml
from support.process import ROOT
from support.programs import require

from taskq.cli import main
from taskq.client.loading import load_app

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "taskq"}


def test_everything_is_there() -> None:
    assert set(SERVICES) == {"redis", "worker", "beat", "exporter", "dashboard", "prometheus", "grafana"}
    assert set(OURS) == {"worker", "beat", "exporter", "dashboard"}


@pytest.mark.parametrize("name", OURS)
def test_commands_are_commands(name: str) -> None:
    command, *arguments = shlex.split(OURS[name]["command"])
    context = click.Context(main)
    found = main.get_command(context, command)
    assert found is not None
    found.make_context(command, arguments, parent=context, resilient_parsing=False).close()


def test_what_is_mounted_is_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).exists(), volume


def test_ports_are_for_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_redis_loses_nothing_that_it_could_keep() -> None:
    assert "--appendonly yes" in SERVICES["redis"]["command"]
    assert "--maxmemory-policy noeviction" in SERVICES["redis"]["command"]


def test_prometheus_scrapes_what_runs() -> None:
    config = yaml.safe_load((ROOT / "grafana" / "compose.yaml").read_text("utf-8"))
    targets = [target for job in config["scrape_configs"] for one in job["static_configs"] for target in one["targets"]]
    assert {target.partition(":")[0] for target in targets} == {"exporter", "worker", "beat"}
    done = subprocess.run(
        [require("promtool"), "check", "config", "compose.yaml"],
        cwd=ROOT / "grafana",
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_app_can_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docker"))
    app = load_app("shop:app")
    assert {task.settings.queue for task in app.tasks.values()} >= {"payments", "emails"}
