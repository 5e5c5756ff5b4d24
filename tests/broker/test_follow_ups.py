"""Follow-ups of the settle script: each happens with the end that it follows, and once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from taskq.broker.scripts.settling import (
    COMPLETE,
    CountReplay,
    DeadLetter,
    End,
    EndOfSchedule,
    FollowUp,
    FreeClaim,
    NextInLane,
    Settle,
    Store,
)

STREAM = 2
DEAD = DeadLetter(b"m", b"evidence", "print", b"label")
ENDS = pytest.mark.parametrize("end", [DEAD, COMPLETE], ids=["dead letter", "complete"])


def settled(entry: bytes, end: End, *follow: FollowUp) -> Settle:
    return Settle(STREAM, entry, "id", end, follow, b"S-result", 60_000)


@ENDS
def test_an_idempotency_key_is_freed_with_the_end(bench: Any, end: End) -> None:
    (entry,) = bench.fetch(b"a")
    claim = bench.keys.claim("pay", "k")
    bench.client.set(claim, "id", px=60_000)
    item = settled(entry, end, FreeClaim(claim))
    assert bench.settle(item)[0] == 1
    assert not bench.client.exists(claim)
    assert bench.pending() == []
    bench.client.set(claim, "id", px=60_000)
    bench.settle(item)
    assert bench.client.exists(claim), "the same call again acts on nothing"


def test_the_key_of_another_message_is_left_alone(bench: Any) -> None:
    (entry,) = bench.fetch(b"a")
    claim = bench.keys.claim("pay", "k")
    bench.client.set(claim, "another", px=60_000)
    bench.settle(settled(entry, DEAD, FreeClaim(claim)))
    assert bench.client.get(claim) == b"another"
    assert bench.pending() == []


def every_follow_up(bench: Any) -> list[FollowUp]:
    keys = bench.keys
    return [
        FreeClaim(keys.claim("pay", "k")),
        CountReplay(keys.dead_run("run"), "succeeded:a", 60_000),
        NextInLane("order"),
        EndOfSchedule("job", 1000, 7, "SUCCESS"),
    ]


def prepare(bench: Any) -> None:
    """What each follow-up would change."""
    bench.client.set(bench.keys.claim("pay", "k"), "id")
    bench.client.hset(bench.keys.lanes, mapping={"korder": 2, "waiting": 1})
    bench.client.rpush(bench.keys.lane_prefix + b"order", b"5next")
    bench.client.hset(bench.keys.schedule("job"), mapping={"message": "id", "keep": 10})
    bench.client.rpush(bench.keys.held("job"), b"5held\nheld message")
    bench.client.sadd(bench.keys.holding, "job")


@ENDS
def test_all_follow_ups_happen_and_once(bench: Any, end: End) -> None:
    (entry,) = bench.fetch(b"a")
    prepare(bench)
    item = settled(entry, end, *every_follow_up(bench))
    assert bench.settle(item)[3:] == [[], [], b""]
    assert sorted(bench.messages()) == [b"held message", b"next"]
    assert bench.client.hget(bench.keys.dead_run("run"), "succeeded:a") == b"1"
    assert not bench.client.exists(bench.keys.claim("pay", "k"))
    after = bench.snapshot()
    assert bench.settle(item)[0] == 1
    assert bench.snapshot() == after, "the same call again changes nothing"


def test_a_stale_worker_runs_no_follow_up(bench: Any) -> None:
    (entry,) = bench.fetch(b"a")
    prepare(bench)
    before = bench.snapshot()
    assert bench.settle(settled(entry, DEAD, *every_follow_up(bench)), consumer=b"another") == [0]
    assert bench.snapshot() == before


def test_an_end_that_is_refused_has_no_follow_up(bench: Any) -> None:
    (entry,) = bench.fetch(b"a")
    prepare(bench)
    bench.client.set(bench.keys.dead, "of another type")
    before = bench.snapshot()
    assert bench.settle(settled(entry, DEAD, *every_follow_up(bench)))[3][0] == entry
    assert bench.snapshot() == before


def test_a_follow_up_that_redis_refuses_stops_no_other(bench: Any) -> None:
    (entry,) = bench.fetch(b"a")
    prepare(bench)
    bench.client.delete(bench.keys.claim("pay", "k"))
    bench.client.rpush(bench.keys.claim("pay", "k"), "of another type")
    *_, refused, failed, trouble = bench.settle(settled(entry, COMPLETE, *every_follow_up(bench)))
    assert (refused, failed) == ([], [])
    assert b"WRONGTYPE" in trouble
    assert sorted(bench.messages()) == [b"held message", b"next"]
    assert bench.client.get(bench.keys.result("id")) == b"S-result"
    bench.client.delete(bench.keys.claim("pay", "k"))


class Unknown(FreeClaim, frozen=True):
    """What a later release may add."""

    kind = "?"


def test_an_unknown_follow_up_is_skipped(bench: Any) -> None:
    """An item has a length, so a script that does not know a part of it still finds the next one."""
    one, two = bench.fetch(b"a", b"b")
    claim = bench.keys.claim("pay", "k")
    bench.client.set(claim, "id")
    bench.settle(settled(one, COMPLETE, Unknown(b"words"), FreeClaim(claim)), settled(two, DEAD))
    assert bench.pending() == bench.messages() == []
    assert not bench.client.exists(claim)
    assert bench.client.xlen(bench.keys.dead) == 1


def test_ends_of_one_replay_are_counted_in_one_go(bench: Any) -> None:
    entries = bench.fetch(*(b"%d" % n for n in range(5)))
    record = bench.keys.dead_run("run")
    words = ["succeeded:a"] * 3 + ["failed:a"] * 2
    items = [settled(e, COMPLETE, CountReplay(record, word, 60_000)) for e, word in zip(entries, words, strict=True)]
    bench.client.config_resetstat()
    bench.settle(*items)
    assert bench.client.hgetall(record) == {b"succeeded:a": b"3", b"failed:a": b"2"}
    assert 0 < bench.client.pttl(record) <= 60_000
    assert bench.client.info("commandstats")["cmdstat_hincrby"]["calls"] == 2


def test_a_record_of_another_type_costs_the_others_nothing(bench: Any) -> None:
    entries = bench.fetch(b"a", b"b", b"c")
    records = [bench.keys.dead_run(name) for name in ("one", "two", "three")]
    bench.client.set(records[1], "of another type")
    items = [settled(e, COMPLETE, CountReplay(r, "failed:a", 60_000)) for e, r in zip(entries, records, strict=True)]
    assert b"WRONGTYPE" in bench.settle(*items)[5]
    assert [bench.client.hget(record, "failed:a") for record in records[::2]] == [b"1", b"1"]


def test_the_end_of_what_was_settled_before_it_ran_is_counted_once(bench: Any) -> None:
    bench.fetch()
    record, stored = bench.keys.dead_run("run"), bench.keys.stored(b"worker")
    item = settled(b"1-1", Store(stored, 1), CountReplay(record, "failed:a", 60_000))
    for _ in range(2):  # the second time after a lost reply
        bench.settle(item)
    assert bench.client.hget(record, "failed:a") == b"1"


def test_words_are_the_fields_in_their_order() -> None:
    counted = CountReplay(b"record", "field", 5)
    assert counted.words() == msgspec.structs.astuple(counted) == (b"record", "field", 5)
