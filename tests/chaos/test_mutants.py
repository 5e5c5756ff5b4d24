"""The checker under test: it calls every broken variant invalid, and the same scenarios valid without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .checker import Verdict
from .mutants import MUTANTS
from .scenarios import SCENARIOS, play

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", MUTANTS)
def test_the_checker_catches(name: str, tmp_path: Path) -> None:
    mutant = MUTANTS[name]
    found = play(mutant.scenario, tmp_path, name)
    assert found.verdict is Verdict.INVALID
    assert set(mutant.caught_by) & set(found.violations), found.text


@pytest.mark.parametrize("name", SCENARIOS)
def test_without_a_mutant_it_is_valid(name: str, tmp_path: Path) -> None:
    found = play(name, tmp_path)
    assert found.verdict is Verdict.VALID, found.text
