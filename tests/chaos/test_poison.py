"""Poison among other tasks: contained, and nobody else pays with more than time."""

from __future__ import annotations

from pathlib import Path

import pytest

from .poison import POOLS, compare


@pytest.mark.slow
@pytest.mark.parametrize("pool", POOLS)
def test_one_in_fifty_kills_its_process_and_only_itself(pool: str, tmp_path: Path) -> None:
    found = compare(tmp_path, pool, tasks=150, seconds=0.02, percent=2)
    assert found.contained, f"{found.poisoned}\n{found.clean.judgement.text}\n{found.poisoned.judgement.text}"
