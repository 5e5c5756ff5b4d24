"""Writes the dashboards: ``python grafana/generate.py``. A test compares the committed files with this output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "dashboards"

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
QUEUE = 'queue=~"$queue"'
RATE = "[$__rate_interval]"
WIDTH = 24
"""Columns of Grafana's grid."""

Panel = dict[str, Any]


def dashboards() -> dict[str, Panel]:
    """Every dashboard by its file name."""
    return {"taskq-overview.json": overview()}


def overview() -> Panel:
    """What waits, what runs, what fails."""
    rows = [
        row("Now"),
        line_of(
            stat("Redis", "min(taskq_up)", "1 while the exporter reaches Redis.", bad_below=1),
            stat("Backlog", total("backlog"), "To do now: not yet delivered, and delivered but not settled."),
            stat("Oldest waiting", f"max({gauge('oldest_age_seconds')})", "Of all queues.", unit="s"),
            stat("Delayed", total("delayed"), "Not due yet: countdown, eta, retries."),
            stat("Dead letters", total("dead"), "Failed for good; `taskq dlq list` shows them.", bad_above=1),
            stat("Workers", total("workers"), "Leases held, one per worker and queue.", bad_below=1),
            height=4,
        ),
        row("Queues"),
        line_of(
            queue_graph("Lag", "lag", "Entries not yet delivered to a worker."),
            queue_graph("Pending", "pending", "Delivered to a worker, not settled."),
            queue_graph("Backlog", "backlog", "Lag and pending."),
        ),
        line_of(
            queue_graph("Delayed", "delayed", "Messages that are not due yet."),
            queue_graph("Dead letters", "dead", "Messages that failed for good."),
            queue_graph("Oldest waiting", "oldest_age_seconds", "Age of the oldest entry not delivered.", "s"),
        ),
        row("Tasks"),
        line_of(
            graph(
                "Deliveries by how they ended",
                [(f"sum by (state) (rate(taskq_tasks_total{{{QUEUE}}}{RATE}))", "{{state}}")],
                "SUCCESS and FAILURE are final; RETRY runs again; RELEASED was handed back before it ran.",
                unit="ops",
                stacked=True,
            ),
            graph("Failures", [(by_task("taskq_tasks_total", ',state="FAILURE"'), "{{task}}")], unit="ops"),
            graph("Retries", [(by_task("taskq_task_retries_total"), "{{task}}")], unit="ops"),
        ),
        line_of(
            graph(
                "Runtime",
                percentiles("taskq_task_runtime_seconds"),
                "How long runs took, of all chosen queues.",
                unit="s",
            ),
            graph(
                "Runtime by task, p95",
                [(quantile("0.95", "taskq_task_runtime_seconds", "task"), "{{task}}")],
                unit="s",
            ),
            graph(
                "Wait",
                percentiles("taskq_task_wait_seconds"),
                "From the message's birth in its queue to its start.",
                unit="s",
            ),
        ),
        row("Trouble"),
        line_of(
            graph(
                "Redelivered",
                [(by_queue("taskq_redelivered_total"), "{{queue}}")],
                "Messages taken over from workers that died.",
                unit="ops",
            ),
            graph(
                "Leases lost",
                [(by_queue("taskq_lease_lost_total"), "{{queue}}")],
                "A worker was cut off or stopped for longer than its lease; what it held ran elsewhere.",
                unit="ops",
            ),
            graph(
                "Unknown tasks",
                [(by_queue("taskq_unknown_tasks_total"), "{{queue}}")],
                "Handed back because the worker does not know the task: usual during a deploy only.",
                unit="ops",
            ),
        ),
    ]
    return {
        "uid": "taskq-overview",
        "title": "taskq: overview",
        "tags": ["taskq"],
        "schemaVersion": 38,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [datasource_variable(), queue_variable()]},
        "panels": placed(rows),
    }


# --- expressions ---


def gauge(name: str) -> str:
    """A gauge per queue; max, because several exporters would show the same queue."""
    return f"max by (queue) (taskq_queue_{name}{{{QUEUE}}})"


def total(name: str) -> str:
    """A gauge summed over the chosen queues."""
    return f"sum({gauge(name)})"


def by_queue(name: str) -> str:
    """The rate of a counter per queue."""
    return f"sum by (queue) (rate({name}{{{QUEUE}}}{RATE}))"


def by_task(name: str, more: str = "") -> str:
    """The rate of a counter per task."""
    return f"sum by (task) (rate({name}{{{QUEUE}{more}}}{RATE}))"


def quantile(q: str, name: str, *labels: str) -> str:
    """A quantile of a histogram."""
    kept = ", ".join(("le", *labels))
    return f"histogram_quantile({q}, sum by ({kept}) (rate({name}_bucket{{{QUEUE}}}{RATE})))"


def percentiles(name: str) -> list[tuple[str, str]]:
    """The three lines of a latency graph."""
    return [(quantile(q, name), label) for q, label in (("0.5", "p50"), ("0.95", "p95"), ("0.99", "p99"))]


# --- panels ---


def graph(
    title: str, targets: list[tuple[str, str]], text: str = "", *, unit: str = "short", stacked: bool = False
) -> Panel:
    """Lines over time."""
    custom: Panel = {"fillOpacity": 25 if stacked else 5, "lineWidth": 1, "showPoints": "never"}
    if stacked:
        custom["stacking"] = {"mode": "normal"}
    return panel("timeseries", title, targets, text) | {
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
    }


def queue_graph(title: str, name: str, text: str, unit: str = "short") -> Panel:
    """One line per queue."""
    return graph(title, [(gauge(name), "{{queue}}")], text, unit=unit)


def stat(
    title: str,
    expression: str,
    text: str,
    *,
    unit: str = "short",
    bad_below: int | None = None,
    bad_above: int | None = None,
) -> Panel:
    """One big number; red below *bad_below*, or from *bad_above*."""
    steps: list[Panel] = [{"color": "green", "value": None}]
    if bad_below is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": bad_below}]
    if bad_above is not None:
        steps.append({"color": "red", "value": bad_above})
    return panel("stat", title, [(expression, "")], text) | {
        "fieldConfig": {
            "defaults": {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"},
    }


def panel(kind: str, title: str, targets: list[tuple[str, str]], text: str) -> Panel:
    """What all panels have."""
    return {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": DATASOURCE,
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": DATASOURCE, "expr": expression, "legendFormat": legend}
            for index, (expression, legend) in enumerate(targets)
        ],
    }


def datasource_variable() -> Panel:
    """Which Prometheus."""
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def queue_variable() -> Panel:
    """Which queues; all by default."""
    query = "label_values(taskq_queue_backlog, queue)"
    return {
        "name": "queue",
        "type": "query",
        "label": "Queue",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": "queue"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


# --- layout ---


def row(title: str) -> list[Panel]:
    """A heading."""
    return [{"type": "row", "title": title, "collapsed": False, "gridPos": {"w": WIDTH, "h": 1}}]


def line_of(*panels: Panel, height: int = 8) -> list[Panel]:
    """Panels side by side."""
    return [one | {"gridPos": {"w": WIDTH // len(panels), "h": height}} for one in panels]


def placed(lines: list[list[Panel]]) -> list[Panel]:
    """All panels with their ids and positions."""
    found: list[Panel] = []
    y = 0
    for line in lines:
        for index, one in enumerate(line):
            size = one["gridPos"]
            position = {"x": index * size["w"], "y": y, **size}
            found.append(one | {"id": len(found) + 1, "gridPos": position})
        y += line[0]["gridPos"]["h"]
    return found


def text_of(dashboard: Panel) -> str:
    """The file's content."""
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every dashboard."""
    FOLDER.mkdir(exist_ok=True)
    for name, dashboard in dashboards().items():
        (FOLDER / name).write_text(text_of(dashboard), "utf-8")


if __name__ == "__main__":
    main()
