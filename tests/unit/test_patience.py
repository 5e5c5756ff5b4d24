"""How long an exchange waits: as long as its bytes move, and not much longer."""

from __future__ import annotations

from taskq.broker.link.patience import Patience


def test_silence_ends_it() -> None:
    patience = Patience(2.0, size=100, now=10.0, moved=100)
    assert 0.9 < patience.left(11.0, 100, waiting=0) < 1.1
    assert patience.left(12.1, 100, waiting=0) <= 0


def test_what_moves_goes_on_for_far_longer_than_the_silence() -> None:
    patience = Patience(2.0, size=100, now=0.0, moved=0)
    for second in range(1, 100):
        assert patience.left(float(second), 200_000 * second, waiting=0) > 1.9


def test_a_request_that_drains_is_not_silent_and_one_that_stands_still_is() -> None:
    patience = Patience(2.0, size=10_000_000, now=0.0, moved=0)
    assert patience.left(2.0, 400_000, waiting=9_600_000) > 0
    assert patience.left(4.0, 400_000, waiting=9_600_000) <= 0


def test_what_was_taken_may_need_time_for_a_slow_link_behind_the_one_who_took_it() -> None:
    patience = Patience(2.0, size=1_000_000, now=0.0, moved=1_000_000)
    assert patience.left(5.0, 1_000_000, waiting=0) > 0
    assert patience.left(6.1, 1_000_000, waiting=0) <= 0


def test_one_byte_now_and_then_does_not_hold_a_caller() -> None:
    patience = Patience(1.0, size=100, now=0.0, moved=0)
    ended = next(second for second in range(1, 100) if patience.left(float(second), second, waiting=0) <= 0)
    assert ended <= 4
