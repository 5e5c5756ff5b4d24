"""Lanes: of each ordering key one message is in the queue, and the next comes when that one has ended."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from taskq.broker import scripts
from taskq.broker.scripts.settling import COMPLETE, DeadLetter, NextInLane, Release, Retry, Settle
from taskq.errors import BrokerRefusedError

DEFAULT = 2
"""Number of the default level's stream."""


def enqueue(bench: Any, *pairs: Any, sequence: int = 1, level: int = 5, unique_id: str | None = None) -> Any:
    return bench.run(scripts.enqueue_ordered(bench.keys, b"p", sequence, level, pairs, unique_id))


def fetch(bench: Any, want: int = 100) -> dict[bytes, bytes]:
    """Deliver up to *want* entries of the default level: message by entry id."""
    _, rows, *_ = bench.settle(want=want)
    return {entry: fields[1] for _, entries in rows for entry, fields in entries}


def done(entry: bytes, lane: str) -> Settle:
    return Settle(DEFAULT, entry, "t", COMPLETE, [NextInLane(lane)])


def dead(entry: bytes, lane: str, message: bytes) -> Settle:
    return Settle(DEFAULT, entry, "t", DeadLetter(message, b"why", "print", b"label"), [NextInLane(lane)])


def lanes(bench: Any) -> Any:
    return bench.client.hgetall(bench.keys.lanes)


def test_one_of_each_key_is_in_the_queue(bench: Any) -> None:
    assert enqueue(bench, "a", b"a1", "a", b"a2", "b", b"b1", "a", b"a3") == 1
    assert bench.messages() == [b"a1", b"b1"]
    assert bench.client.lrange(bench.keys.lane_prefix + b"a", 0, -1) == [b"5a2", b"5a3"]
    assert lanes(bench) == {b"ka": b"3", b"kb": b"1", b"waiting": b"2"}


def test_the_next_comes_when_it_has_ended(bench: Any) -> None:
    bench.register()
    enqueue(bench, "a", b"a1", "a", b"a2")
    for message in (b"a1", b"a2"):
        ((entry, found),) = fetch(bench).items()
        assert found == message
        assert bench.settle(done(entry, "a"))[0] == 1
        assert bench.settle(done(entry, "a"))[0] == 1, "sent again: it changes nothing"
    assert fetch(bench) == {}
    assert not bench.client.exists(bench.keys.lanes, bench.keys.lane_prefix + b"a")


def test_a_dead_letter_ends_it_too_and_a_retry_or_release_does_not(bench: Any) -> None:
    bench.register()
    enqueue(bench, "a", b"a1", "a", b"a2")
    ((entry, _),) = fetch(bench).items()
    bench.settle(Settle(DEFAULT, entry, "t", Release()))
    assert bench.messages("front") == [b"a1"]
    ((entry, _),) = fetch(bench).items()
    bench.settle(Settle(1, entry, "t", Retry(0, b"5a1")))
    assert bench.messages() == []
    assert bench.run(scripts.promote(bench.keys))[0] == 1
    assert bench.messages() == [b"a1"], "it has its place already"
    ((entry, _),) = fetch(bench).items()
    bench.settle(dead(entry, "a", b"a1"))
    assert bench.messages() == [b"a2"]


def test_without_memory_for_the_dead_letter_the_next_waits(bench: Any) -> None:
    bench.register()
    enqueue(bench, "a", b"a1", "a", b"a2")
    ((entry, _),) = fetch(bench).items()
    bench.fill_up()
    assert bench.settle(dead(entry, "a", b"a1"))[3][::2] == [entry]
    bench.make_room()
    assert bench.messages() == [b"a1"]
    assert lanes(bench) == {b"ka": b"2", b"waiting": b"1"}


def test_nothing_is_sent_twice(bench: Any) -> None:
    enqueue(bench, "a", b"a1", unique_id="u")
    before = bench.snapshot()
    assert enqueue(bench, "a", b"a1") is None
    assert enqueue(bench, "a", b"a1", sequence=2, unique_id="u") is None
    assert bench.snapshot() == before


def test_without_memory_nothing_is_written(bench: Any) -> None:
    bench.fill_up()
    with pytest.raises(BrokerRefusedError):
        enqueue(bench, "a", b"a1")
    assert bench.snapshot() == {}


def test_each_waits_with_its_level(bench: Any, ear: Any) -> None:
    bench.register()
    enqueue(bench, "a", b"a1")
    enqueue(bench, "a", b"a2", sequence=2, level=9)
    assert ear.heard() == [b"levels"]
    ((entry, _),) = fetch(bench).items()
    bench.settle(done(entry, "a"))
    assert bench.messages(9) == [b"a2"]


def test_other_ways_into_the_queue(bench: Any) -> None:
    enqueue(bench, "a", b"a1")
    level, data = scripts.routed(5, b"a2\nx", "a")
    bench.run(scripts.relay(bench.keys, ["id", level, "", data]))
    bench.client.zadd(bench.keys.delayed, {level.encode() + data.replace(b"a2", b"a3"): 1})
    assert bench.run(scripts.promote(bench.keys))[0] == 1
    dead = bench.client.xadd(bench.keys.dead, {"m": b"a4", "i": b""})
    assert bench.run(scripts.replay(bench.keys, [dead, "", level, data.replace(b"a2", b"a4"), "t"])) == 1
    assert bench.messages() == [b"a1"]
    waiting = bench.client.lrange(bench.keys.lane_prefix + b"a", 0, -1)
    assert waiting == [b"5a2\nx", b"5a3\nx", b"5a4\nx"]
    assert scripts.split_member(level.encode() + data) == (5, b"a2\nx")
    assert scripts.split_member(b"7xyz") == (7, b"xyz")


class LaneMachine(RuleBasedStateMachine):
    """Random calls, crashes, failures and purges against a plain list for each key."""

    bench: Any
    compared = 0
    """How often, in all examples."""

    def __init__(self) -> None:
        super().__init__()
        for key in self.bench.client.scan_iter(match="bench:*"):
            self.bench.client.delete(key)
        self.bench.register()
        self.sequence = 0
        self.queues: dict[str, list[bytes]] = {"a": [], "b": []}
        self.held: dict[bytes, bytes] = {}
        self.where: dict[bytes, int] = {}

    def _key(self, message: bytes) -> str:
        return message[:1].decode()

    @rule(keys=st.lists(st.sampled_from("ab"), min_size=1, max_size=4))
    def send(self, keys: list[str]) -> None:
        self.sequence += 1
        pairs: list[Any] = []
        for n, key in enumerate(keys):
            message = f"{key}{self.sequence}.{n}".encode()
            self.queues[key].append(message)
            pairs += (key, message)
        enqueue(self.bench, *pairs, sequence=self.sequence)

    @rule(want=st.integers(1, 3))
    def take(self, want: int) -> None:
        _, rows, *_ = self.bench.settle(want=want)
        for number, entries in rows:
            for entry, fields in entries:
                message = fields[1]
                assert self.queues[self._key(message)][0] == message, "out of its order"
                self.held[entry] = message
                self.where[entry] = number

    def _one(self, data: Any) -> tuple[bytes, bytes, int]:
        entry = data.draw(st.sampled_from(sorted(self.held)))
        return entry, self.held.pop(entry), self.where.pop(entry)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), fails=st.booleans(), twice=st.booleans())
    def end(self, data: Any, fails: bool, twice: bool) -> None:
        entry, message, number = self._one(data)
        key = self._key(message)
        end = DeadLetter(message, b"why", "print", b"label") if fails else COMPLETE
        for _ in range(1 + twice):
            self.bench.settle(Settle(number, entry, "t", end, [NextInLane(key)]))
        assert self.queues[key].pop(0) == message

    @precondition(lambda self: self.held)
    @rule(data=st.data(), retry=st.booleans())
    def put_back(self, data: Any, retry: bool) -> None:
        entry, message, number = self._one(data)
        self.bench.settle(Settle(number, entry, "t", Retry(0, b"5" + message) if retry else Release()))

    @rule()
    def promote(self) -> None:
        self.bench.run(scripts.promote(self.bench.keys))

    @rule()
    def crash(self) -> None:
        self.bench.run(scripts.recover(self.bench.keys, self.bench.streams, b"host:1:aaaa", 1))
        self.held, self.where = {}, {}
        self.bench.register()

    @rule(key=st.sampled_from("ab"))
    def purge_waiting(self, key: str) -> None:
        """All that waits behind the first."""
        waiting = self.bench.client.lrange(self.bench.keys.lane_prefix + key.encode(), 0, -1)
        fives = [word for member in waiting for word in ("lane", member, "", "", key)]
        assert self.bench.run(scripts.purge(self.bench.keys, self.bench.streams, 1000, b"V", fives)) == len(waiting)
        del self.queues[key][1:]

    @invariant()
    def counts_agree(self) -> None:
        state = self.bench.client.hgetall(self.bench.keys.lanes)
        expected = {f"k{key}".encode(): str(len(queue)).encode() for key, queue in self.queues.items() if queue}
        waiting = sum(max(len(queue) - 1, 0) for queue in self.queues.values())
        if waiting:
            expected[b"waiting"] = str(waiting).encode()
        assert state == expected
        outside = sum(self.bench.client.xlen(stream) for stream in self.bench.streams)
        assert outside + self.bench.client.zcard(self.bench.keys.delayed) == sum(map(bool, self.queues.values()))
        type(self).compared += 1


def test_lanes_behave_as_lists(bench: Any) -> None:
    machine = type("Machine", (LaneMachine,), {"bench": bench})
    limits = settings(max_examples=8, stateful_step_count=30, deadline=None, database=None)
    run_state_machine_as_test(machine, settings=limits)
    assert machine.compared, "the counts were compared after every step"
