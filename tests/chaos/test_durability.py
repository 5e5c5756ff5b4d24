"""What Redis has acknowledged, after kill -9 and after a power cut, as its settings promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from .durability import trial

pytestmark = pytest.mark.slow


def test_with_always_nothing_is_lost(tmp_path: Path) -> None:
    found = trial(tmp_path, "always", 0.5)
    assert found.accepted > 50
    assert (found.lost_by_kill, found.lost_by_power_cut) == (0, 0)


def test_with_everysec_a_power_cut_takes_the_last_messages_and_no_others(tmp_path: Path) -> None:
    found = trial(tmp_path, "everysec", 1.5)
    assert found.lost_by_kill == 0
    assert 0 < found.lost_by_power_cut < found.accepted, "the cut must be one, and something was synced"
    assert found.in_order
