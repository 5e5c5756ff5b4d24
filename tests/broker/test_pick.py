"""The script that takes what there is a place for, past what must stay."""

from __future__ import annotations

from typing import Any

import pytest

from taskq.broker import scripts
from taskq.values.message import Message, Meta, encode, new_id, wire_id

CALM, LOUD, ABSENT = "app.calm", "app.loud", "app.absent"
UNKNOWN, CALM_PLACE, LOUD_PLACE, SUSPECTS = 1, 2, 3, 4
PLACES = (CALM, CALM_PLACE, SUSPECTS, LOUD, LOUD_PLACE, LOUD_PLACE)
CONSUMER = b"host:1:aaaa"


def message(task: str, number: int, size: int = 0) -> bytes:
    return encode(Message(1, new_id(), task, [number, "x" * size], {}))


def number_of(data: bytes) -> int:
    import msgspec

    return int(msgspec.msgpack.decode(data)[3][0])


class Queue:
    """The queue of a bench, with priority 9 besides the default."""

    def __init__(self, bench: Any) -> None:
        self.bench, self.client = bench, bench.client
        bench.streams = scripts.streams_of(bench.keys, [9])
        self.front, self.high, self.usual = bench.streams
        bench.register()

    def add(self, stream: bytes, task: str, *numbers: int, size: int = 0, **fields: str) -> None:
        for number in numbers:
            self.client.xadd(stream, {"m": message(task, number, size), **fields})

    def pick(self, known: bytes = b"", consumer: bytes = CONSUMER, window: tuple[int, int] = (100, 10**6), **room: int):
        rooms = (room.get("unknown", 0), room.get("calm", 0), room.get("loud", 0), room.get("suspects", 0))
        return self.bench.run(scripts.pick(self.bench.keys, self.bench.streams, consumer, known, rooms, PLACES, window))

    def taken(self, **options: Any) -> list[int]:
        status, rows, *_ = self.pick(**options)
        assert status == 1
        return [number_of(fields[1]) for _, entries in rows for _, fields in entries]

    def order(self) -> list[int]:
        """What is not delivered yet, in the order in which a worker that takes anything gets it."""
        status, rows, *_ = self.bench.settle(want=1000)
        assert status == 1
        return [number_of(fields[1]) for _, entries in rows for _, fields in entries]

    def pending(self) -> int:
        return sum(self.client.xpending(stream, "taskq")["pending"] for stream in self.bench.streams)


@pytest.fixture
def queue(bench: Any) -> Queue:
    return Queue(bench)


def test_it_takes_what_fits_and_the_others_keep_their_order(queue: Queue) -> None:
    for number in range(6):
        queue.add(queue.usual, LOUD if number % 2 else CALM, number)
    assert queue.taken(loud=2) == [1, 3]
    assert queue.pending() == 2
    assert queue.order() == [0, 2, 4, 5]


def test_what_fits_is_taken_at_the_head_as_it_stands(queue: Queue) -> None:
    queue.add(queue.usual, LOUD, 0, 1)
    queue.add(queue.high, LOUD, 2)
    queue.add(queue.usual, CALM, 3)
    before = queue.client.xlen(queue.front)
    assert queue.taken(loud=5) == [2, 0, 1]
    assert queue.client.xlen(queue.front) == before == 0
    assert queue.order() == [3]


def test_priorities_stay_with_what_is_not_taken(queue: Queue) -> None:
    queue.add(queue.usual, CALM, 0, 1)
    queue.add(queue.usual, LOUD, 2)
    assert queue.taken(loud=1) == [2]
    queue.add(queue.high, CALM, 3)
    assert queue.order() == [3, 0, 1]


def test_what_waits_in_the_front_stays_before_the_others(queue: Queue) -> None:
    queue.add(queue.front, CALM, 0, 1)
    queue.add(queue.front, LOUD, 2)
    queue.add(queue.front, CALM, 3)
    queue.add(queue.usual, CALM, 4)
    queue.add(queue.usual, LOUD, 5)
    assert queue.taken(loud=9) == [2, 5]
    assert queue.pending() == 2
    assert queue.order() == [0, 1, 3, 4]


def test_a_front_longer_than_what_is_looked_at_lets_through_what_it_has(queue: Queue) -> None:
    queue.add(queue.front, CALM, *range(3))
    queue.add(queue.front, LOUD, 3)
    queue.add(queue.front, CALM, *range(4, 9))
    queue.add(queue.usual, LOUD, 9)
    assert queue.taken(loud=9, window=(6, 10**6)) == [3]
    assert sorted(queue.order()) == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_it_looks_at_so_many_entries_and_bytes_and_no_more(queue: Queue) -> None:
    queue.add(queue.usual, CALM, 0, 1, 2, size=1000)
    queue.add(queue.usual, LOUD, 3)
    assert queue.taken(loud=1, window=(3, 10**6)) == []
    assert queue.taken(loud=1, window=(100, 1000)) == []
    assert queue.taken(loud=1, window=(4, 10**6)) == [3]


def test_a_single_large_entry_is_always_looked_at(queue: Queue) -> None:
    queue.add(queue.usual, LOUD, 0, 1, size=5000)
    assert queue.taken(loud=9, window=(100, 100)) == [0]


def test_suspects_have_a_place_of_their_own(queue: Queue) -> None:
    queue.add(queue.front, CALM, 0, c="0")
    queue.add(queue.front, LOUD, 1, c="0")
    queue.add(queue.usual, CALM, 2)
    assert queue.taken(calm=5) == [2]
    assert queue.taken(loud=5) == [1]
    assert queue.taken(suspects=5) == [0]
    status, rows, *_ = queue.pick()
    assert (status, rows) == (1, [])


def test_a_suspect_that_steps_past_others_stays_one(queue: Queue) -> None:
    queue.add(queue.front, CALM, 0)
    queue.add(queue.front, CALM, 1, c="2")
    _, [[_, [[_, fields]]]], *_ = queue.pick(suspects=1)
    assert fields[2:] == [b"c", b"2"]


def test_unknown_tasks_and_what_is_no_message_go_with_the_first_place(queue: Queue) -> None:
    queue.add(queue.usual, ABSENT, 0)
    for junk in (b"", b"\xff", b"\x96\x01", b"\x96\x02\xa1a\xa1b", b"\x96\x01\xd9", b"\x96\x01\xc5\x01"):
        queue.client.xadd(queue.usual, {"m": junk})
    queue.client.xadd(queue.usual, {"other": "field"})
    assert queue.taken(calm=9, loud=9, suspects=9) == []
    _, [[_, entries]], *_ = queue.pick(unknown=9)
    assert len(entries) == 8


@pytest.mark.parametrize("task_id", ["5" * 32, "x", "y" * 200], ids=["own", "short", "long"])
@pytest.mark.parametrize("name", ["t", "a.module." + "n" * 100, "ä" * 150], ids=["short", "usual", "long"])
def test_it_finds_the_task_in_every_message(queue: Queue, name: str, task_id: str) -> None:
    data = encode(Message(1, wire_id(task_id), name, ["x" * 100], {}, Meta(priority=3)))
    queue.client.xadd(queue.usual, {"m": data})
    call = scripts.pick(queue.bench.keys, queue.bench.streams, CONSUMER, b"", (0, 0, 1), (CALM, 2, 2, name, 3, 3))
    _, [[_, [[_, fields]]]], *_ = queue.bench.run(call)
    assert fields == [b"m", data]


def test_it_looks_again_only_when_something_has_changed(queue: Queue) -> None:
    queue.add(queue.usual, CALM, 0)
    _, rows, _, state = queue.pick(loud=1)
    assert rows == []
    # told so, it takes the caller's word for it that nothing fits
    assert queue.taken(known=state, calm=1) == []
    queue.add(queue.usual, CALM, 1)
    assert queue.taken(known=state, calm=1) == [0]


def test_it_sees_a_change_in_every_stream(queue: Queue) -> None:
    for stream in queue.bench.streams:
        state = queue.pick()[3]
        queue.add(stream, LOUD, 7)
        assert queue.taken(known=state, loud=1) == [7]


def test_it_takes_nothing_of_a_paused_queue_and_says_what_is_revoked(queue: Queue) -> None:
    queue.add(queue.usual, CALM, 0)
    queue.client.set(queue.bench.keys.paused, "1")
    queue.client.zadd(queue.bench.keys.revoked, {"x": 1})
    assert queue.pick(calm=1)[:3] == [1, [], 3]
    queue.client.delete(queue.bench.keys.paused)
    status, rows, flags, _ = queue.pick(calm=1)
    assert (status, len(rows), flags) == (1, 1, 1)


def test_without_a_lease_it_changes_nothing(queue: Queue) -> None:
    queue.add(queue.usual, CALM, 0)
    queue.add(queue.usual, LOUD, 1)
    assert queue.pick(consumer=b"stranger", loud=1) == [0]
    assert queue.order() == [0, 1]


def test_a_queue_without_its_group_says_so(queue: Queue) -> None:
    queue.client.delete(queue.usual)
    with pytest.raises(Exception, match="NOGROUP"):
        queue.pick(calm=1)


def test_views_count_what_is_left(queue: Queue) -> None:
    for number in range(6):
        queue.add(queue.usual, LOUD if number % 2 else CALM, number)
    assert queue.taken(loud=2) == [1, 3]
    _, lag, pending, *_ = queue.bench.run(scripts.stats(queue.bench.keys, 120))
    assert (lag, pending) == (4, 2)
