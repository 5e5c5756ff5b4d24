"""The recover script: a dead worker's deliveries go to the front, and it is stale from the first of them on."""

from __future__ import annotations

from typing import Any

import pytest

from taskq.broker import scripts
from taskq.broker.scripts.settling import COMPLETE, Settle
from taskq.errors import BrokerRefusedError


def front(bench: Any) -> list[dict[bytes, bytes]]:
    return [fields for _, fields in bench.client.xrange(bench.streams[0])]


def recover(bench: Any, consumer: bytes = b"", charge: int = 1, page: int = 200) -> Any:
    return bench.run(scripts.recover(bench.keys, bench.streams, consumer, charge, page))


def expire(bench: Any, consumer: bytes) -> None:
    bench.watched()
    bench.client.zadd(bench.keys.consumers, {consumer: 1})


def mark(bench: Any, stream: int, entry: bytes, consumer: bytes) -> Any:
    return bench.run(scripts.mark(bench.keys, bench.streams[stream], consumer, entry))


@pytest.mark.parametrize("last", [None, "long ago", "nonsense"])
def test_while_nobody_can_renew_nobody_is_dead(bench: Any, last: str | None) -> None:
    bench.fetch(b"a", consumer=b"silent")
    expire(bench, b"silent")
    bench.client.delete(bench.keys.renewed)
    if last is not None:
        bench.client.set(bench.keys.renewed, f"{bench.now_ms() - 5000} 4000 0" if last == "long ago" else last)
    before = bench.snapshot()
    assert recover(bench) == [0, 0, 0, b""]
    assert bench.snapshot() == before


def test_deliveries_of_an_expired_lease_move_and_become_suspects(bench: Any) -> None:
    bench.fetch(b"a", b"b", consumer=b"dead")
    expire(bench, b"dead")
    assert recover(bench) == [2, 0, -1, b"dead"]
    assert front(bench) == [{b"m": b"a", b"c": b"0"}, {b"m": b"b", b"c": b"0"}]
    assert bench.pending() == bench.messages() == []
    assert not bench.client.exists(bench.keys.consumers)
    names = [row["name"] for stream in bench.streams for row in bench.client.xinfo_consumers(stream, "taskq")]
    assert b"dead" not in names


def test_a_page_of_large_messages_is_short(bench: Any) -> None:
    large = [b"%d" % n + b"x" * 400_000 for n in range(7)]
    bench.fetch(*large, consumer=b"dead")
    expire(bench, b"dead")
    assert [recover(bench)[:2] for _ in range(3)] == [[3, 1], [3, 1], [1, 0]]
    assert [fields[b"m"] for fields in front(bench)] == large


def test_again_changes_nothing(bench: Any) -> None:
    bench.fetch(b"a", consumer=b"dead")
    expire(bench, b"dead")
    recover(bench)
    before = bench.snapshot()
    assert recover(bench) == [0, 0, -1, b""]
    assert bench.snapshot() == before


def test_a_living_worker_is_left_alone(bench: Any) -> None:
    bench.fetch(b"a", consumer=b"alive")
    before = bench.snapshot()
    moved, more, next_ms, who = recover(bench)
    assert (moved, more, who) == (0, 0, b"")
    assert 0 < next_ms <= 60_000
    assert bench.snapshot() == before


def test_of_the_suspects_only_the_marked_one_is_charged(bench: Any) -> None:
    bench.fetch(b"a", b"b", consumer=b"first")
    expire(bench, b"first")
    recover(bench)
    for name, crashes in ((b"second", b"2"), (b"third", b"3")):
        bench.register(name)
        _, rows, *_ = bench.settle(want=2, consumer=name)
        guilty = next(entry for entry, fields in rows[0][1] if fields[1] == b"a")
        assert mark(bench, 0, guilty, name) == 1
        expire(bench, name)
        recover(bench)
        assert {fields[b"m"]: fields[b"c"] for fields in front(bench)} == {b"a": crashes, b"b": b"0"}


def test_one_that_ran_in_a_process_of_its_own_is_charged_for_one_crash_at_a_time(bench: Any) -> None:
    bench.fetch(b"a", consumer=b"first")
    expire(bench, b"first")
    recover(bench)
    for name, crashes in ((b"second", b"1"), (b"third", b"2")):
        bench.register(name)
        _, rows, *_ = bench.settle(want=1, consumer=name)
        entry = rows[0][1][0][0]
        assert bench.run(scripts.mark(bench.keys, bench.streams[0], name, entry, isolated=True)) == 1
        expire(bench, name)
        recover(bench)
        assert front(bench) == [{b"m": b"a", b"c": crashes}]


def test_reading_the_own_pending_list_again_is_no_mark(bench: Any) -> None:
    bench.fetch(b"a", consumer=b"first")
    expire(bench, b"first")
    recover(bench)
    bench.register(b"second")
    bench.settle(want=1, consumer=b"second")
    for _ in range(3):
        bench.client.xreadgroup("taskq", b"second", {bench.streams[0]: "0"})
    expire(bench, b"second")
    recover(bench)
    assert front(bench) == [{b"m": b"a", b"c": b"0"}]


def test_only_the_owner_can_mark(bench: Any) -> None:
    (entry,) = bench.fetch(b"a", consumer=b"owner")
    bench.register(b"other")
    before = bench.snapshot()
    assert mark(bench, 1, entry, b"other") == 0
    assert mark(bench, 1, entry, b"nobody") == 0
    assert bench.snapshot() == before
    assert mark(bench, 1, entry, b"owner") == mark(bench, 1, entry, b"owner") == 1


def test_a_worker_that_hands_back_is_named_and_not_charged(bench: Any) -> None:
    bench.fetch(b"a", consumer=b"leaving")
    assert recover(bench, b"leaving", charge=0)[0] == 1
    assert front(bench) == [{b"m": b"a"}]
    assert bench.run(scripts.heartbeat(bench.keys, b"leaving", 1000)) == [0, 0]


def test_it_goes_page_by_page_and_the_worker_is_stale_from_the_first(bench: Any) -> None:
    entries = bench.fetch(*(b"%d" % n for n in range(5)), consumer=b"dead")
    expire(bench, b"dead")
    assert recover(bench, page=2)[:2] == [2, 1]
    assert bench.settle(Settle(2, entries[4], "id", COMPLETE, (), b"S", 1000), consumer=b"dead") == [0]
    assert len(bench.pending(b"dead")) == 3
    assert recover(bench, page=2)[:2] == [2, 1]
    assert recover(bench, page=2)[:2] == [1, 0]
    assert [fields[b"m"] for fields in front(bench)] == [b"%d" % n for n in range(5)]


def test_a_recovery_that_stopped_half_way_is_taken_up_again(bench: Any) -> None:
    """Also where the one who began it had named the worker, and charged nothing."""
    bench.fetch(*(b"%d" % n for n in range(5)), consumer=b"leaving")
    assert recover(bench, b"leaving", charge=0, page=2)[:2] == [2, 1]
    assert recover(bench) == [3, 0, -1, b"leaving"]
    assert all(set(fields) == {b"m"} for fields in front(bench))


def test_deliveries_of_the_front_move_too(bench: Any) -> None:
    bench.register(b"dead")
    bench.client.xadd(bench.streams[0], {"m": b"a", "c": 1})
    bench.settle(want=1, consumer=b"dead")
    expire(bench, b"dead")
    recover(bench)
    assert front(bench) == [{b"m": b"a", b"c": b"1"}]


def test_garbage_keeps_all_its_fields(bench: Any) -> None:
    bench.register(b"dead")
    bench.client.xadd(bench.streams[1], {"x": b"\xff", "y": b"1"})
    bench.settle(want=1, consumer=b"dead")
    expire(bench, b"dead")
    assert recover(bench)[0] == 1
    assert front(bench) == [{b"x": b"\xff", b"y": b"1"}]


def test_entries_deleted_behind_our_back_end_the_pending_list(bench: Any) -> None:
    one, _two = bench.fetch(b"a", b"b", consumer=b"dead")
    bench.client.xdel(bench.streams[1], one)
    expire(bench, b"dead")
    assert recover(bench)[0] == 2
    assert bench.pending() == []
    assert [fields[b"m"] for fields in front(bench)] == [b"b"]


def test_a_stream_without_group_does_not_stop_the_others(bench: Any) -> None:
    bench.fetch(b"a", consumer=b"dead")
    bench.client.xgroup_destroy(bench.streams[0], "taskq")
    expire(bench, b"dead")
    assert recover(bench)[0] == 1


def test_without_memory_nothing_is_lost(bench: Any) -> None:
    bench.fetch(b"a", b"b", b"c", consumer=b"dead")
    expire(bench, b"dead")
    bench.fill_up()
    for _ in range(3):
        try:
            recover(bench, page=1)
        except BrokerRefusedError:
            assert len(bench.pending()) + len(front(bench)) == 3
    bench.make_room()
    while recover(bench)[1]:
        pass
    assert [fields[b"m"] for fields in front(bench)] == [b"a", b"b", b"c"]
    assert bench.pending() == []


def test_the_next_lease_to_run_out_is_told(bench: Any) -> None:
    bench.register(b"one", lease_ms=5000)
    bench.register(b"two", lease_ms=90_000)
    next_ms = recover(bench)[2]
    assert 0 < next_ms <= 5000


@pytest.mark.parametrize("count", [1, 3])
def test_several_dead_workers_come_one_after_the_other(bench: Any, count: int) -> None:
    for n in range(count):
        bench.fetch(b"%d" % n, consumer=b"dead-%d" % n)
    for n in range(count):
        expire(bench, b"dead-%d" % n)
    calls = 1
    while recover(bench)[1]:
        calls += 1
    assert calls <= count + 1
    assert sorted(fields[b"m"] for fields in front(bench)) == [b"%d" % n for n in range(count)]
