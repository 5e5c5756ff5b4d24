"""The saved results: one JSON file per study, from which the report is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.bench import Rows

DIRECTORY = Path(__file__).parent / "results"


def load(path: Path) -> dict[str, Any]:
    """What was saved; empty when nothing was."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def save(path: Path, results: dict[str, Any]) -> None:
    """Write *results*, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(results, indent=1) + "\n")
    part.replace(path)


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """*new*, with what *old* has besides: other measures, and in the same measure the rows of contenders that did not
    take part now, and the rows of which there is no new sample yet."""
    measures = {
        name: {"rows": _rows(old.get("measures", {}).get(name, {}).get("rows", {}), measure["rows"])}
        for name, measure in new["measures"].items()
    }
    together = new | {
        "contenders": {**old.get("contenders", {}), **new["contenders"]},
        "measures": {**old.get("measures", {}), **measures},
    }
    gone = {**old.get("absent", {}), **new["absent"]}
    together["absent"] = {name: why for name, why in gone.items() if name not in new["contenders"]}
    return together


def _rows(old: Rows, new: Rows) -> Rows:
    contenders = {name.split("/")[0] for name in new}
    kept = {name: row for name, row in old.items() if name in new or name.split("/")[0] not in contenders}
    return kept | {name: row for name, row in new.items() if name not in kept or "taken" in row or "error" in row}
