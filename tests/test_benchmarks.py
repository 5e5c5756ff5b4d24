"""The benchmarks run: the smallest sizes, no timing is looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.process import ROOT, clean_environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks read /proc")


def benchmarks(*arguments: str, output: Path) -> dict[str, Any]:
    """Run a command of the benchmarks; what it saved."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments, "--json", str(output)],
        cwd=ROOT,
        env=clean_environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    found: dict[str, Any] = json.loads(output.read_text())
    return found


def test_a_run_measures_taskq_and_the_bare_loops(tmp_path: Path) -> None:
    measures = "throughput,enqueue,memory"
    found = benchmarks("run", "--smoke", "--measures", measures, output=tmp_path / "run.json")
    assert found["machine"]["versions"]["redis-server"]
    assert set(found["measures"]) == set(measures.split(","))
    rows = found["measures"]["throughput"]["rows"]
    assert {"bare/loop_msgpack", "bare/loop_results", "taskq/one/plain", "taskq/two/results"} <= set(rows)
    for measure in found["measures"].values():
        for name, row in measure["rows"].items():
            assert "error" not in row, f"{name}: {row['error']}"
            assert row["figures"].get("surplus", {"max": 0})["max"] == 0, f"{name}: tasks ran twice"
            assert all({"median", "min", "max"} <= set(figure) for figure in row["figures"].values())


def test_the_breakdown_names_every_phase(tmp_path: Path) -> None:
    found = benchmarks("breakdown", "--smoke", output=tmp_path / "breakdown.json")
    assert {phase["side"] for phase in found["phases"]} == {"enqueue", "worker"}
    assert "taskq/one/plain" in found["whole"]


def test_a_scaling_curve_has_a_cost_for_each_size(tmp_path: Path) -> None:
    found = benchmarks("scaling", "--smoke", "--only", "pending", output=tmp_path / "scaling.json")
    for curve in found["measures"].values():
        assert len(curve["points"]) == 2
        assert set(curve["growth"]) == {"us", "redis_us"}


def test_the_report_judges_every_target() -> None:
    from benchmarks import report
    from benchmarks.targets import TARGETS

    text = report.target_table({}, {})
    assert text.count("not measured") == len(TARGETS)


def test_every_mode_has_its_cost() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "modes", "--count", "200", "--turns", "1"],
        cwd=ROOT,
        env=clean_environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("| ")]
    assert {"`at_least_once`", "`at_most_once`", "`idempotency_key=`", "the relay, SQLite"} <= set(rows)
