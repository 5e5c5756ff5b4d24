"""The reread script: a group gets a range of its topic again, as copies, and nobody else does."""

from __future__ import annotations

from typing import Any

import pytest
from broker.test_dispatch import KEYS, QUEUE, TOPIC, copies, dispatch, publish, seek, state

from taskq.broker.scripts import topics as topic_scripts
from taskq.broker.scripts.topics import MOST_WAITING, NEXT_ASLEEP, NEXT_MORE


def reread(bench: Any, first: str = "earliest", end_ms: int | None = None, token: str = "t") -> int:
    return int(bench.run(topic_scripts.reread(TOPIC, "g", first, end_ms, token)))


@pytest.fixture
def read(bench: Any) -> list[str]:
    """Five events that the group has read, a second apart; their ids."""
    bench.tag = b"{orders/}"
    for n in range(1, 6):
        bench.client.xadd(TOPIC.events, {"m": b"\x01", "n": n}, id=f"{n * 1000}-0")
    bench.client.hset(TOPIC.state, "total", 5)
    seek(bench, "earliest")
    dispatch(bench)
    bench.client.xtrim(QUEUE.stream(5), maxlen=0, approximate=False)
    return [f"{n * 1000}-0" for n in range(1, 6)]


def ordinals(bench: Any) -> list[int]:
    return [message.args[0][1] for message in copies(bench)]


def test_all_that_was_read(bench: Any, read: list[str]) -> None:
    assert reread(bench) == 5
    assert dispatch(bench) == [5, 0, NEXT_ASLEEP]
    assert ordinals(bench) == [1, 2, 3, 4, 5]
    assert state(bench, "replays:g") is None
    assert state(bench, "read:g") == b"5"
    assert dispatch(bench) == [0, 0, NEXT_ASLEEP]


@pytest.mark.parametrize(
    ("first", "end", "expected"),
    [
        ("2000", None, [2, 3, 4, 5]),
        ("2001", 4000, [3]),
        ("after 2000-0", 4001, [3, 4]),
        ("earliest", 1, []),
        ("6000", None, []),
        ("earliest", 5000, [1, 2, 3, 4]),
        ("earliest", 99999, [1, 2, 3, 4, 5]),
    ],
)
def test_a_range(bench: Any, read: list[str], first: str, end: int | None, expected: list[int]) -> None:
    assert reread(bench, first, end) == len(expected)
    dispatch(bench)
    assert ordinals(bench) == expected
    assert state(bench, "replays:g") is None


def test_what_the_group_has_still_to_read_is_not_replayed(bench: Any, read: list[str]) -> None:
    publish(bench, "new", sequence=2)
    assert reread(bench) == 5
    assert dispatch(bench) == [6, 0, NEXT_ASLEEP]
    assert sorted(ordinals(bench)) == [1, 2, 3, 4, 5, 6]


def test_copies_are_messages_of_their_own(bench: Any, read: list[str]) -> None:
    for token in ("a", "b"):
        assert reread(bench, token=token) == 5
    dispatch(bench)
    dispatch(bench)
    assert ordinals(bench) == [1, 2, 3, 4, 5] * 2
    assert len({message.id for message in copies(bench)[:5]}) == 5


def test_a_call_that_comes_again_changes_nothing(bench: Any, read: list[str]) -> None:
    assert reread(bench) == 5
    before = bench.snapshot()
    assert reread(bench) == 5
    assert bench.snapshot() == before
    dispatch(bench)
    assert reread(bench) == 5
    assert dispatch(bench)[0] == 0


def test_a_long_replay_goes_on_in_pages_beside_what_is_new(bench: Any) -> None:
    for sequence in range(1, 4):
        publish(bench, *range(MOST_WAITING), sequence=sequence)
    seek(bench, "latest")
    assert reread(bench) == 3 * MOST_WAITING
    publish(bench, *range(MOST_WAITING), sequence=4)
    found: list[int] = []
    more = NEXT_MORE
    while more == NEXT_MORE:
        _, missed, more = dispatch(bench)
        assert not missed
        found += ordinals(bench)
        bench.client.xtrim(QUEUE.stream(5), maxlen=0, approximate=False)
    assert sorted(found) == list(range(1, 4 * MOST_WAITING + 1))
    assert max(found[:600]) > 3 * MOST_WAITING, "what is new does not wait for the replay"
    assert min(found[:600]) == 1, "nor the replay for what is new"


def test_who_has_read_nothing_has_nothing_to_replay(bench: Any) -> None:
    publish(bench, 1)
    before = bench.snapshot()
    assert reread(bench) == -1
    assert bench.snapshot() == before


def test_no_more_than_a_hundred_wait(bench: Any, read: list[str]) -> None:
    assert {reread(bench, token=f"t{n}") for n in range(100)} == {5}
    assert reread(bench, token="one more") == -2


def test_the_dispatcher_is_woken(bench: Any, read: list[str], listen: Any) -> None:
    ear = listen(TOPIC.published)
    reread(bench)
    assert ear.heard() == [b"published"]
    assert KEYS.topic("orders") is TOPIC
