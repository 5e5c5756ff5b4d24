"""Definitions of schedules: define, attend, undefine, and which revision is armed where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from taskq.broker.keys import Keys, ScheduleKeys
from taskq.broker.scripts import schedules as scripts

KEYS: ScheduleKeys = Keys("bench").schedules
PATIENCE = 60_000
Define = Callable[..., list[Any]]


@pytest.fixture
def define(bench: Any) -> Define:
    """Register a definition of ``job``; its text is its hash too."""

    def defined(text: str, queue: str = "q", source: str = "code", timing: str = "t", **given: Any) -> list[Any]:
        definition = scripts.Defining("job", text, timing, queue, text.encode(), source)
        given = {"now_ms": 5000, "patience_ms": PATIENCE} | given
        return list(bench.broker.run(scripts.define(KEYS, definition, **given)))

    return defined


def test_the_newest_stands_and_an_equal_one_is_the_same(bench: Any, define: Define) -> None:
    assert define("a") == [1, 1, b"5000"]
    assert define("a", now_ms=9000) == [1, 1, b"5000"]
    assert define("b", now_ms=9000) == [1, 2, b"5000"]
    assert bench.client.hget(KEYS.definitions, "job") == b"b"


def test_an_older_one_is_refused_while_a_beat_has_the_newer(bench: Any, define: Define) -> None:
    define("old")
    define("new")
    assert define("old") == [0, 2]
    assert bench.client.hget(KEYS.definitions, "job") == b"new"


def test_an_older_one_is_taken_up_when_no_beat_has_the_newer(define: Define) -> None:
    define("old")
    define("new")
    assert define("old", patience_ms=0)[:2] == [1, 3]
    assert define("new") == [0, 3]


def test_a_change_of_timing_begins_anew(define: Define) -> None:
    define("a", now_ms=1000)
    assert define("b", timing="other", now_ms=9000)[2] == b"9000"
    assert define("c", timing="other", now_ms=12_000)[2] == b"9000"


def test_earlier_queues_are_named(define: Define) -> None:
    define("a", "first")
    define("b", "second")
    assert define("c", "third")[3:] == [b"first", b"second"]
    assert define("d", "first")[3:] == [b"second", b"third"]


def test_runtime_may_not_take_a_name_of_running_code(define: Define) -> None:
    define("code")
    assert define("runtime", source="runtime") == [-1, 1]
    assert define("runtime", source="runtime", patience_ms=0)[:2] == [1, 2]
    assert define("other", source="runtime")[:2] == [1, 3]
    assert define("runtime", source="runtime")[:2] == [1, 4]  # the latest call is the newest


def test_changes_are_published(define: Define, listen: Any) -> None:
    ear = listen(KEYS.wake)
    define("a")
    define("a")
    assert ear.heard() == [b"changed"]


def test_attending_confirms_what_stands_and_names_what_does_not(bench: Any, define: Define) -> None:
    define("new")
    bench.client.hdel(KEYS.confirmed, "job")
    assert bench.broker.run(scripts.attend(KEYS, "b1", 60_000, ["job", "old", "gone", "x"])) == [1, 1, b"job", b"gone"]
    assert not bench.client.hexists(KEYS.confirmed, "job")
    assert bench.broker.run(scripts.attend(KEYS, "b2", 60_000, ["job", "new"])) == [1, 2]
    assert bench.client.hexists(KEYS.confirmed, "job")
    assert bench.broker.run(scripts.attend(KEYS, "b2", None, [])) == [1, 1]


def test_a_beat_that_does_not_attend_is_forgotten(bench: Any) -> None:
    bench.client.zadd(KEYS.beats, {"dead": 1})
    assert bench.broker.run(scripts.attend(KEYS, "b1", 60_000, [])) == [0, 1]


def test_a_last_number_that_is_not_a_number_reads_as_none(bench: Any) -> None:
    """The reply must not end at it."""
    bench.client.set(KEYS.number, "foreign")
    assert bench.broker.run(scripts.attend(KEYS, "b1", 60_000, ["job", "new"])) == [0, 1, b"job"]


def test_undefine_takes_only_what_the_caller_knows(bench: Any, define: Define) -> None:
    define("a")
    define("b")
    assert bench.broker.run(scripts.undefine(KEYS, "job", 1)) == 0
    assert [bench.broker.run(scripts.undefine(KEYS, "job", 2)) for _ in range(2)] == [1, 1]
    assert not bench.client.exists(KEYS.definitions, KEYS.revisions, KEYS.confirmed)
    assert define("b")[1] > 2  # numbers never come again


# --- where it may fire ---


def test_arming_begins_where_nothing_is_known(bench: Any) -> None:
    assert bench.run(scripts.arm(bench.keys, "job", 1, 1000, 500)) == [1, b"1000", 0]
    assert bench.run(scripts.arm(bench.keys, "job", 1, 2000, 2000)) == [1, b"1000", 0]


def test_a_new_revision_goes_on_or_begins_later(bench: Any) -> None:
    bench.run(scripts.arm(bench.keys, "job", 1, 1000, 0))
    assert bench.run(scripts.arm(bench.keys, "job", 2, 9000, 500)) == [1, b"1000", 0]
    assert bench.run(scripts.arm(bench.keys, "job", 3, 9000, 4000)) == [1, b"4000", 0]


def test_an_older_revision_is_not_armed(bench: Any) -> None:
    bench.run(scripts.arm(bench.keys, "job", 2, 1000, 0))
    assert bench.run(scripts.arm(bench.keys, "job", 1, 1000, 0)) == [0]


def test_what_a_retired_queue_knew_goes_along(bench: Any) -> None:
    bench.run(scripts.arm(bench.keys, "job", 1, 1000, 0))
    bench.run(scripts.suspend(bench.keys, "job", True, b"wake"))
    for _ in range(2):
        assert bench.run(scripts.retire(bench.keys, "job", 2)) == [b"1000", 1, 0]
    assert bench.client.pttl(bench.keys.schedule("job")) > 0
    assert bench.run(scripts.arm(bench.keys, "job", 2, 0, 0)) == [0]
    assert bench.run(scripts.suspend(bench.keys, "job", False, b"wake")) == -1
    # it comes back
    assert bench.run(scripts.arm(bench.keys, "job", 3, 0, 7000, True)) == [1, b"7000", 1]
    assert bench.client.pttl(bench.keys.schedule("job")) == -1
    assert bench.run(scripts.retire(bench.keys, "job", 2)) == []


def test_resuming_makes_up_for_nothing(bench: Any, listen: Any) -> None:
    bench.run(scripts.arm(bench.keys, "job", 1, 1000, 0))
    ear = listen(b"wake")
    answers = [bench.run(scripts.suspend(bench.keys, "job", pause, b"wake")) for pause in (False, True, True, False)]
    assert answers == [0, 1, 0, 1]
    assert int(bench.client.hget(bench.keys.schedule("job"), "fired")) == pytest.approx(bench.now_ms(), abs=60_000)
    assert len(ear.heard()) == 2
