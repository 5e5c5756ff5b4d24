"""Panels, and the dashboard around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grafana.generator.expressions import Target

Json = dict[str, Any]
Line = list[Json]

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
"""Columns of Grafana's grid."""
QUEUE_LINK = "/d/taskq-queue?${datasource:queryparam}&${ns:queryparam}&var-queue=${__field.labels.queue}"
TASK_LINK = "/d/taskq-task?${datasource:queryparam}&${ns:queryparam}&var-task=${__field.labels.task}"


def dashboard(name: str, title: str, text: str, variables: Sequence[Json], lines: Sequence[Line]) -> Json:
    """A whole dashboard; every other one with the tag ``taskq`` is linked at its top."""
    links = {
        "type": "dashboards",
        "tags": ["taskq"],
        "title": "taskq",
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
    }
    return {
        "uid": f"taskq-{name}",
        "title": f"taskq: {title}",
        "description": text,
        "tags": ["taskq"],
        "schemaVersion": 38,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [links],
        "templating": {"list": [datasource_variable(), *variables]},
        "panels": placed(lines),
    }


# --- panels ---


def graph(
    title: str,
    targets: str | Sequence[Target],
    text: str,
    *,
    legend: str = "{{queue}}",
    unit: str = "short",
    stacked: bool = False,
    link: str = "",
) -> Json:
    """Lines over time; a single expression has *legend*."""
    custom: Json = {"fillOpacity": 25 if stacked else 5, "lineWidth": 1, "showPoints": "never"}
    if stacked:
        custom["stacking"] = {"mode": "normal"}
    defaults: Json = {"unit": unit, "min": 0, "custom": custom}
    if link:
        defaults["links"] = [{"title": "Show it alone", "url": link}]
    return panel("timeseries", title, [(targets, legend)] if isinstance(targets, str) else targets, text) | {
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
    }


def stat(
    title: str,
    expression: str,
    text: str,
    *,
    unit: str = "short",
    bad_below: float | None = None,
    bad_from: float | None = None,
) -> Json:
    """One big number; red below *bad_below*, or from *bad_from*."""
    steps: list[Json] = [{"color": "green", "value": None}]
    if bad_below is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": bad_below}]
    if bad_from is not None:
        steps.append({"color": "red", "value": bad_from})
    return panel("stat", title, [(expression, "")], text) | {
        "fieldConfig": {
            "defaults": {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"},
    }


def panel(kind: str, title: str, targets: Sequence[Target], text: str) -> Json:
    """What all panels have."""
    return {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": DATASOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": expression,
                "legendFormat": legend,
                "exemplar": "_bucket" in expression,
            }
            for index, (expression, legend) in enumerate(targets)
        ],
    }


# --- variables ---


def datasource_variable() -> Json:
    """Which Prometheus."""
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def ns_variable() -> Json:
    """Which namespace: one."""
    return _variable("ns", "Namespace", "label_values(taskq_up, ns)")


def queue_variable() -> Json:
    """Which queues; all by default."""
    return _variable("queue", "Queue", 'label_values(taskq_queue_backlog{ns="$ns"}, queue)') | _ALL


def task_variable() -> Json:
    """Which tasks; all by default."""
    return _variable("task", "Task", 'label_values(taskq_tasks_total{ns="$ns",queue=~"$queue"}, task)') | _ALL


_ALL = {"multi": True, "includeAll": True, "allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}}


def _variable(name: str, label: str, query: str) -> Json:
    return {
        "name": name,
        "type": "query",
        "label": label,
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
    }


# --- layout ---


def row(title: str) -> Line:
    """A heading."""
    return [{"type": "row", "title": title, "collapsed": False, "gridPos": {"w": WIDTH, "h": 1}}]


def line(*panels: Json, height: int = 8) -> Line:
    """Panels side by side."""
    return [panel | {"gridPos": {"w": WIDTH // len(panels), "h": height}} for panel in panels]


def numbers(*panels: Json) -> Line:
    """Big numbers side by side."""
    return line(*panels, height=4)


def placed(lines: Sequence[Line]) -> list[Json]:
    """All panels with their ids and positions."""
    found: list[Json] = []
    y = 0
    for panels in lines:
        for index, one in enumerate(panels):
            size = one["gridPos"]
            found.append(one | {"id": len(found) + 1, "gridPos": {"x": index * size["w"], "y": y, **size}})
        y += panels[0]["gridPos"]["h"]
    return found
