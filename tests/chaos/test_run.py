"""A whole run under chaos, of the size that every change can afford; and the parts of the harness around it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

from . import report
from .checker import Verdict
from .nemesis import schedule
from .run import Settings, run

SEED = 20_000


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_nothing_is_lost_under_chaos(tmp_path: Path) -> None:
    """20,000 tasks, 20 kills of workers, children, producers and beats, 2 of Redis, and other faults."""
    outcome = run(Settings(seed=SEED, minutes=0.6), tmp_path)
    text = report.write(outcome, tmp_path).read_text()
    assert outcome.judgement.verdict is Verdict.VALID, text
    assert outcome.judgement.counts["tasks"] == 20_000
    assert outcome.facts is not None
    kinds = Counter(fault.kind for fault in outcome.facts.faults)
    assert kinds["redis kill"] == 2
    assert sum(count for kind, count in kinds.items() if kind.startswith("kill")) >= 16, "some find nobody to kill"
    assert ET.parse(tmp_path / "unseen.svg").getroot().tag.endswith("svg")


def test_a_run_that_breaks_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("no nemesis today")

    monkeypatch.setattr("chaos.run.schedule", broken, raising=False)
    outcome = run(Settings(seed=1, minutes=0.01, tasks=2, workers=(), beats=0), tmp_path)
    assert outcome.judgement.verdict is Verdict.UNKNOWN
    assert "no nemesis today" in report.markdown(outcome)


def test_the_schedule_follows_from_the_seed() -> None:
    one = schedule(5, 60, 20, 2)
    assert one == schedule(5, 60, 20, 2)
    assert one != schedule(6, 60, 20, 2)
    assert [op.at for op in one] == sorted(op.at for op in one)
    assert sum(op.kind.startswith("kill") for op in one) == 20
    assert {op.kind for op in schedule(5, 60, 7, 2, only="proxy cut")} == {"proxy cut"}
