"""Redis in trouble: the worker neither dies nor spins, goes on by itself, and settles what it had finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from .checker import Verdict
from .troubles import TROUBLES, bear

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", TROUBLES)
def test_a_worker_bears(name: str, tmp_path: Path) -> None:
    found = bear(name, tmp_path / "chaos", 1.0)
    assert found.judgement.verdict is Verdict.VALID, found.judgement.text
    # a worker that spins takes all of a CPU, and logs each of its thousand tries: these are counts, not times
    assert found.cpu < 40
    assert found.lines <= 4
