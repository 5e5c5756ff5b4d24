"""The scripts of a rate limit: permits, parking, moving back. And that no window ever has too many starts."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskq.broker import scripts
from taskq.broker.scripts import HOLD_MS
from taskq.broker.scripts.settling import COMPLETE, Release, Settle
from taskq.values.rates import RateLimit

CONSUMER = b"host:1:aaaa"
TWO = RateLimit(2, 10_000)


def ask(bench: Any, entries: list[bytes], most: int = 100, limit: RateLimit = TWO, consumer: bytes = CONSUMER) -> Any:
    triples: list[Any] = []
    for entry in entries:
        triples += (2, entry, b"id-" + entry)
    status, *rest = bench.run(scripts.permit(bench.keys, bench.streams, consumer, "t", limit, most, triples))
    return rest[1:] if status else status


def unpark(bench: Any, limit: RateLimit = TWO, caller: bytes = CONSUMER) -> Any:
    return bench.run(scripts.unpark(bench.keys, caller, "t", limit))


def test_so_many_may_start_and_the_others_are_parked_in_order(bench: Any, ear: Any) -> None:
    entries = bench.fetch(b"one", b"two", b"three", b"four")
    assert ask(bench, entries) == [1, 1, 0, 0]
    assert bench.pending() == entries[:2]
    assert bench.client.lrange(bench.keys.parked("t"), 0, -1) == [
        b"\nid-" + entry + b"\n" + data for entry, data in zip(entries[2:], (b"three", b"four"), strict=True)
    ]
    assert bench.client.smembers(bench.keys.limited) == {b"t"}
    assert ear.heard() == [b"parked"]
    assert bench.client.pttl(bench.keys.permits("t")) > 10_000


def test_a_lost_reply_changes_nothing(bench: Any) -> None:
    entries = bench.fetch(b"one", b"two", b"three")
    ask(bench, entries)
    before = bench.client.lrange(bench.keys.parked("t"), 0, -1)
    assert ask(bench, entries) == [1, 1, 0]
    assert bench.client.lrange(bench.keys.parked("t"), 0, -1) == before
    assert bench.client.zcard(bench.keys.permits("t")) == 2


def test_who_has_no_slot_yet_keeps_its_place(bench: Any) -> None:
    entries = bench.fetch(b"one", b"two", b"three")
    assert ask(bench, entries, most=1) == [1, 2, 0]
    assert unpark(bench)[0] == 0, "its permit is held"
    assert bench.pending() == entries[:2]
    assert ask(bench, entries[1:2], most=1) == [1]
    assert bench.client.zcard(bench.keys.permits("t")) == 2


def test_a_stale_worker_gets_none(bench: Any) -> None:
    entries = bench.fetch(b"one")
    before = bench.snapshot()
    assert ask(bench, entries, consumer=b"stale") == 0
    assert bench.snapshot() == before


def test_newcomers_stand_behind_those_that_are_parked(bench: Any) -> None:
    limit = RateLimit(1, 10_000)
    first = bench.fetch(b"one", b"two")
    assert ask(bench, first, limit=limit) == [1, 0]
    bench.client.delete(bench.keys.permits("t"))
    assert ask(bench, bench.fetch(b"three"), limit=limit) == [0]
    assert unpark(bench, limit)[0] == 1
    assert bench.messages("front") == [b"two"]


def test_a_message_that_was_moved_back_has_its_permit(bench: Any) -> None:
    entries = bench.fetch(b"one", b"two", b"three")
    ask(bench, entries)
    assert unpark(bench)[0] == 0, "no permit is free"
    bench.client.delete(bench.keys.permits("t"))
    assert unpark(bench) == [1, -1]
    assert bench.client.zrange(bench.keys.permits("t"), 0, -1) == [b"gid-" + entries[2]]
    _, ((_, ((entry, _),)),), *_ = bench.settle(want=1)
    triples = (1, entry, b"id-" + entries[2])
    answer = bench.run(scripts.permit(bench.keys, bench.streams, CONSUMER, "t", TWO, 1, triples))
    assert answer[2:] == [1]
    assert bench.client.zrange(bench.keys.permits("t"), 0, -1) == [b"sid-" + entries[2] + b":" + entry]
    assert not bench.client.exists(bench.keys.limited)


def test_crashes_are_kept(bench: Any) -> None:
    bench.register()
    assert ask(bench, bench.fetch(b"other"), limit=RateLimit(1, 10_000)) == [1]
    bench.client.xadd(bench.streams[1], {"m": b"suspect", "c": 2})
    _, ((_, ((entry, _),)),), *_ = bench.settle(want=1)
    assert ask(bench, [entry], limit=RateLimit(1, 10_000)) == [0]
    bench.client.delete(bench.keys.permits("t"))
    unpark(bench)
    assert bench.client.xrange(bench.streams[0])[0][1] == {b"m": b"suspect", b"c": b"2"}


def test_one_mover_at_a_time(bench: Any) -> None:
    entries = bench.fetch(*(b"%d" % n for n in range(4)))
    ask(bench, entries)
    moved, wait = unpark(bench, caller=b"first")
    assert (moved, 0 < wait <= 10_000) == (0, True)
    _, later = unpark(bench, caller=b"second")
    assert wait < later <= wait + 1000, "the second is told to come after the first should have come again"


def test_what_is_given_back_is_used_at_once(bench: Any, ear: Any) -> None:
    entries = bench.fetch(b"one", b"two", b"three")
    ask(bench, entries)
    unpark(bench, caller=b"first")
    permit = b"sid-%b:%b" % (entries[0], entries[0])
    assert bench.run(scripts.started(bench.keys, "t", (permit, ""))) == 1
    assert unpark(bench, caller=b"second") == [1, -1]
    assert ear.heard() == [b"parked", b"parked"]


def test_a_permit_counts_from_the_start_once_that_is_known(bench: Any) -> None:
    (entry,) = bench.fetch(b"one")
    limit = RateLimit(1, 10_000)
    ask(bench, [entry], limit=limit)
    permit = b"sid-%b:%b" % (entry, entry)
    assert bench.run(scripts.started(bench.keys, "t", (permit, "12345.678"))) == 0
    assert bench.client.zscore(bench.keys.permits("t"), permit) == 12345.678
    assert bench.run(scripts.started(bench.keys, "t", ("never given", "1"))) == 0
    assert bench.client.zcard(bench.keys.permits("t")) == 1


def test_a_moved_message_that_never_comes_holds_its_permit_for_a_while_only(bench: Any) -> None:
    hour = RateLimit(1, 3_600_000)
    entries = bench.fetch(b"one", b"two")
    ask(bench, entries, limit=hour)
    bench.client.delete(bench.keys.permits("t"))
    unpark(bench, hour)
    held_until = bench.client.zscore(bench.keys.permits("t"), b"gid-" + entries[1]) + hour.window_ms
    assert held_until == pytest.approx(bench.now_ms() + HOLD_MS, abs=2000)


class _World:
    """The scripts under a clock of the test's own: keys are shifted in time instead of waiting."""

    def __init__(self, bench: Any, limit: RateLimit) -> None:
        self.bench, self.limit = bench, limit
        self.shift = 0.0
        self.starts: list[float] = []
        self.arrived: deque[bytes] = deque()
        self.number = 0

    def now(self) -> float:
        seconds, micros = self.bench.client.time()
        return int(seconds) * 1000 + int(micros) / 1000 + self.shift

    def pass_(self, ms: int) -> None:
        """Time passes: every permit is so much older."""
        client, key = self.bench.client, self.bench.keys.permits("t")
        for member, score in client.zrange(key, 0, -1, withscores=True):
            client.zadd(key, {member: score - ms})
        client.delete(self.bench.keys.mover("t"))
        self.shift += ms

    def send(self, count: int) -> None:
        for _ in range(count):
            self.number += 1
            self.bench.client.xadd(self.bench.streams[1], {"m": b"id%d" % self.number})

    def work(self, slots: int, late_ms: int) -> None:
        """Fetch, ask, start up to *slots* of them *late_ms* after their permit; hand back the others."""
        _, rows, *_ = self.bench.settle(want=20)
        triples: list[Any] = []
        entries = []
        for number, found in rows:
            for entry, fields in found:
                triples += (number, entry, fields[1])
                entries.append((number, entry, fields[1]))
        call = scripts.permit(self.bench.keys, self.bench.streams, CONSUMER, "t", self.limit, slots, triples)
        _, base, *answers = self.bench.run(call)
        assert sum(answer == 1 for answer in answers) <= slots
        pairs: list[Any] = []
        items: list[Settle] = []
        for (number, entry, task), answer in zip(entries, answers, strict=True):
            if answer == 1:
                self.starts.append(float(base) + self.shift + late_ms)
                pairs += (b"s%b:%b" % (task, entry), f"{float(base) + late_ms:.3f}")
                items.append(Settle(number, entry, task, COMPLETE))
            elif answer == 2:
                items.append(Settle(number, entry, task, Release()))
        self.bench.run(scripts.started(self.bench.keys, "t", pairs))
        self.bench.settle(*items)

    def left(self) -> int:
        client, keys = self.bench.client, self.bench.keys
        return sum(client.xlen(stream) for stream in self.bench.streams) + client.llen(keys.parked("t"))


steps = st.one_of(
    st.tuples(st.just("send"), st.integers(1, 8)),
    st.tuples(st.just("pass"), st.integers(1, 15_000)),
    st.tuples(st.just("work"), st.integers(0, 6), st.integers(0, 900)),
    st.tuples(st.just("unpark")),
)


@given(steps=st.lists(steps, max_size=40), count=st.integers(1, 4))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_no_window_has_more_starts_than_the_limit(bench: Any, steps: list[Any], count: int) -> None:
    bench.client.flushdb()
    bench.register()
    world = _World(bench, RateLimit(count, 10_000))
    for name, *values in steps:
        {"send": world.send, "pass": world.pass_, "work": world.work, "unpark": lambda: unpark(bench, world.limit)}[
            name
        ](*values)
    for _ in range(200):  # and all of them start in the end
        if not world.left():
            break
        unpark(bench, world.limit)
        world.work(5, 0)
        world.pass_(10_000)
    assert world.left() == 0
    assert len(world.starts) == world.number
    ordered = sorted(world.starts)
    for first, last in zip(ordered, ordered[count:], strict=False):
        assert last - first >= 10_000 - 0.01, f"{count + 1} starts in {last - first} ms"


HOUR = 3_600_000


def shift(bench: Any, by_ms: int) -> None:
    """Have all starts and holds been written *by_ms* later: as after a step of Redis's clock back by so much."""
    permits = bench.keys.permits("t")
    for name, at in bench.client.zrange(permits, 0, -1, withscores=True):
        bench.client.zadd(permits, {name: at + by_ms})


@pytest.mark.parametrize("window_ms", [1_000, 10_000, 7 * 24 * HOUR])
@pytest.mark.parametrize("back_ms", [5_000, HOUR])
def test_after_a_step_back_starts_count_from_the_present_at_the_latest(
    bench: Any, window_ms: int, back_ms: int
) -> None:
    """Else nothing would start until the clock is where it was."""
    limit = RateLimit(2, window_ms)
    entries = bench.fetch(b"one", b"two", b"three")
    assert ask(bench, entries, limit=limit) == [1, 1, 0]
    shift(bench, back_ms)
    moved, wait = unpark(bench, limit)
    assert moved == 0
    assert wait <= window_ms + scripts.GUARD_MS
    latest = max(at for _, at in bench.client.zrange(bench.keys.permits("t"), 0, -1, withscores=True))
    assert latest <= bench.now_ms() + scripts.GUARD_MS + 1
    shift(bench, back_ms)
    assert ask(bench, bench.fetch(b"four"), limit=limit) == [0], "more than the limit would start in a window"
    latest = max(at for _, at in bench.client.zrange(bench.keys.permits("t"), 0, -1, withscores=True))
    assert latest <= bench.now_ms() + scripts.GUARD_MS + 1


def test_after_a_step_back_a_held_permit_is_held_no_longer(bench: Any) -> None:
    limit = RateLimit(2, 1_000)
    assert ask(bench, bench.fetch(b"one", b"two"), most=0, limit=limit) == [2, 2]
    shift(bench, HOUR)
    assert ask(bench, bench.fetch(b"three"), most=0, limit=limit) == [0]
    latest = max(at for _, at in bench.client.zrange(bench.keys.permits("t"), 0, -1, withscores=True))
    assert latest <= bench.now_ms() + HOLD_MS


def test_after_a_step_forward_no_more_than_the_limit_may_start_again(bench: Any) -> None:
    """What was written before the step is forgotten: once, that many more than without it."""
    entries = bench.fetch(b"one", b"two", b"three", b"four", b"five")
    assert ask(bench, entries[:3]) == [1, 1, 0]
    shift(bench, -HOUR)
    assert unpark(bench)[0] == 1
    assert bench.client.zcard(bench.keys.permits("t")) == 1
    assert ask(bench, entries[3:]) == [1, 0]


def test_who_moves_parked_messages_is_not_kept_by_a_step_back(bench: Any) -> None:
    """The key lives until a time of the clock: after a step back far longer than anybody is ever the mover."""
    assert ask(bench, bench.fetch(b"one", b"two", b"three")) == [1, 1, 0]
    bench.client.set(bench.keys.mover("t"), b"dead", px=HOUR)
    bench.client.delete(bench.keys.permits("t"))
    assert unpark(bench)[0] == 1
