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
    measures = "throughput,enqueue,memory,publishing"
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


def test_a_size_alone_joins_the_other_sizes_of_its_curve() -> None:
    from benchmarks.scaling import study

    def points(date: str, *sizes: int) -> list[dict[str, Any]]:
        figures = {name: {"median": 10, "min": 9, "max": 11} for name in ("us", "redis_us")}
        return [{"size": size, "taken": {"date": date}, "figures": figures} for size in sizes]

    def curve(date: str, *sizes: int) -> dict[str, Any]:
        return {"measures": {"keys": study.judged("keys", points(date, *sizes))}}

    before = curve("then", 1, 50)
    before["measures"]["worker_memory"] = {"points": []}
    found = study.merged(before, curve("now", 200, 50))["measures"]
    assert {p["size"]: p["taken"]["date"] for p in found["keys"]["points"]} == {1: "then", 50: "now", 200: "now"}
    assert found["keys"]["flat"]
    assert "worker_memory" in found


def test_an_interrupted_run_keeps_its_samples(tmp_path: Path) -> None:
    from benchmarks.bench import Bench, Rows, Trial
    from benchmarks.sizes import SMOKE

    kept: list[Rows] = []
    rates = iter((1.0, 2.0))

    def interrupted() -> dict[str, float]:
        if len(kept) == 1:
            raise KeyboardInterrupt
        return {"rate": 3.0}

    bench = Bench(SMOKE, 5, None, tmp_path, [])  # type: ignore[arg-type]  # no trial here needs Redis
    trials = [Trial("a/x", "", lambda: {"rate": next(rates)}), Trial("b/x", "", interrupted)]
    with pytest.raises(KeyboardInterrupt):
        bench.take_in_turns(trials, kept.append)
    assert [row["taken"]["turns"] for row in kept[-1].values()] == [2, 1]


def test_rows_of_another_run_keep_their_figures_and_date() -> None:
    from benchmarks import results

    def run(date: str, *names: str) -> dict[str, Any]:
        rows = {name: {"command": "", "taken": {"date": date}} for name in names}
        return {
            "contenders": {name.split("/")[0]: {} for name in names},
            "absent": {},
            "measures": {"m": {"rows": rows}},
        }

    new = run("now", "taskq/x", "taskq/new")
    new["measures"]["m"]["rows"]["taskq/x"].pop("taken")  # interrupted before its first sample
    rows = results.merged(run("then", "taskq/x", "taskq/gone", "rival/x"), new)["measures"]["m"]["rows"]
    dates = {name: row["taken"]["date"] for name, row in rows.items()}
    assert dates == {"taskq/x": "then", "rival/x": "then", "taskq/new": "now"}


def test_a_median_of_many_pairs_has_a_narrow_interval() -> None:
    from benchmarks.figures import median_interval

    assert median_interval([0.9, 1.0, 1.1]) == (0.9, 1.1)
    low, high = median_interval([0.9 + number / 1000 for number in range(200)])
    assert 0.98 < low < 0.9995 < high < 1.02


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
