"""Dashboards, rules and alerts: as generated, complete, and right by Prometheus's own tools."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.process import ROOT
from support.programs import require
from support.prometheus import DASHBOARDS, GRAFANA, RULES, expressions, panels

from grafana.generator.dashboards import files
from taskq.observe.metrics.catalogue import SPECS

SUFFIX = re.compile(r"_(bucket|sum|count)$")


def complaints(*arguments: str | Path, directory: Path = GRAFANA) -> str:
    """What promtool has to say against something; empty when it is right."""
    done = subprocess.run([require("promtool"), *arguments], cwd=directory, capture_output=True, text=True, timeout=60)
    return f"status {done.returncode}\n{done.stdout}{done.stderr}" if done.returncode else ""


def alerts() -> list[dict[str, str]]:
    """Name and runbook of every alert, read from the rules line by line: no YAML library is needed for it."""
    text = (GRAFANA / "rules" / "alerts.yaml").read_text("utf-8")
    names = re.findall(r"- alert: (\w+)", text)
    runbooks = re.findall(r"runbook: (\S+)", text)
    return [{"name": name, "runbook": runbook} for name, runbook in zip(names, runbooks, strict=True)]


def test_committed_dashboards_are_what_the_generator_writes() -> None:
    assert {file.name: file.read_text("utf-8") for file in DASHBOARDS} == files(), "run python -m grafana.generator"


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_panels_are_laid_out_described_and_templated(file: Path) -> None:
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
    variables = [variable["name"] for variable in dashboard["templating"]["list"]]
    assert variables[:3] == ["datasource", "ns", "queue"]
    assert dashboard["links"][0]["tags"] == ["taskq"]
    for panel in panels(dashboard):
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["description"], panel["title"]
        for target in panel["targets"]:
            assert 'ns="$ns"' in target["expr"]


def test_what_is_asked_for_is_in_the_catalogue() -> None:
    texts: list[str] = [asked.expression for asked in expressions()] + [file.read_text("utf-8") for file in RULES]
    named = {SUFFIX.sub("", name) for text in texts for name in re.findall(r"(?<![:\w])taskq_\w+(?![\w:])", text)}
    assert named <= set(SPECS)
    assert len(named) > 40


def test_the_page_about_panels_has_every_one() -> None:
    page = (ROOT / "docs" / "grafana-panels.md").read_text("utf-8")
    missing = [asked for asked in expressions() if f"| {asked.panel} | `{asked.expression}` |" not in page]
    assert not missing, "run TASKQ_WRITE_PANELS=docs/grafana-panels.md python -m pytest tests/observe/test_panels.py"


def test_links_lead_to_dashboards_that_exist() -> None:
    uids = {json.loads(file.read_text("utf-8"))["uid"] for file in DASHBOARDS}
    for file in DASHBOARDS:
        assert set(re.findall(r'"url": "/d/([\w-]+)', file.read_text("utf-8"))) <= uids


def test_rules_are_right_and_alerts_fire_when_they_should() -> None:
    assert not complaints("check", "rules", *RULES)
    assert not complaints("test", "rules", "alerts.test.yaml", directory=GRAFANA / "rules")


def test_the_scrape_configuration_is_right() -> None:
    assert not complaints("check", "config", "prometheus.yaml")


def test_every_alert_is_tested_both_ways_and_has_a_runbook() -> None:
    tests = (GRAFANA / "rules" / "alerts.test.yaml").read_text("utf-8")
    for alert in alerts():
        assert len(re.findall(rf"alertname: {alert['name']}\b", tests)) == 2, alert["name"]
        page = ROOT / alert["runbook"]
        assert f"`{alert['name']}`" in page.read_text("utf-8"), page
    pages: Any = {str(page.relative_to(ROOT)) for page in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert pages == {alert["runbook"] for alert in alerts()}
