"""All dashboards, and their files."""

from __future__ import annotations

import json
from pathlib import Path

from grafana.generator import events, overview, queue, scheduler, task, workers
from grafana.generator.panels import Json

FOLDER = Path(__file__).parents[1] / "dashboards"


def dashboards() -> list[Json]:
    """Every dashboard, in the order of the links between them."""
    return [module.dashboard() for module in (overview, queue, task, scheduler, events, workers)]


def files() -> dict[str, str]:
    """File name -> content."""
    return {f"{one['uid']}.json": json.dumps(one, indent=2, ensure_ascii=False) + "\n" for one in dashboards()}
