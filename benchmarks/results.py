"""The saved results: one JSON file per study, from which the report is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    """*new*, with the measures of *old* that it does not have. A measure is replaced as a whole, or not at all:
    its ratios hold within one run."""
    together = new | {key: {**old.get(key, {}), **new[key]} for key in ("measures", "contenders") if key in new}
    if "absent" in new:
        gone = {**old.get("absent", {}), **new["absent"]}
        together["absent"] = {name: why for name, why in gone.items() if name not in new.get("contenders", {})}
    return together
