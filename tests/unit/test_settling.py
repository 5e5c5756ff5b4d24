"""What the settle script is told: the frame of its items, and the ends and follow-ups of deliveries. No Redis."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq.broker.keys import Keys
from taskq.broker.scripts import RUN_TTL_MS, settling, streams_of
from taskq.broker.scripts.settling import (
    COMPLETE,
    Bury,
    Commit,
    CountReplay,
    DeadLetter,
    End,
    EndOfSchedule,
    FollowUp,
    FreeClaim,
    NextInLane,
    Release,
    Retry,
    Settle,
    Store,
    settle,
)
from taskq.values.delivery import Delivery
from taskq.values.message import Message, Meta, Replayed
from taskq.worker.partition.settling import BEGUN, DONE, Outcome, restored, settles, together
from taskq.worker.running.executors.child import pack_frame, take_frames

KEYS = Keys("ns").queue("q")
STREAMS = streams_of(KEYS, [])
LETTER = DeadLetter(b"message", b"evidence", "print", b"label")
words = st.one_of(st.binary(max_size=5), st.text(max_size=5), st.integers(0, 9))
ends = st.one_of(
    st.just(COMPLETE),
    st.builds(Retry, st.integers(0, 9), st.binary()),
    st.just(LETTER),
    st.builds(Release, st.none() | st.integers(0, 9)),
    st.builds(Store, st.binary(), st.integers(0, 9)),
    st.builds(Bury, st.binary(), st.integers(0, 9), st.just(LETTER)),
    st.lists(st.lists(words, min_size=1, max_size=3), max_size=3).map(
        lambda commands: Commit((len(commands), *(word for each in commands for word in (len(each), *each))))
    ),
)
follow_ups = st.one_of(
    st.builds(FreeClaim, st.binary()),
    st.builds(NextInLane, st.text()),
    st.builds(CountReplay, st.binary(), st.text(), st.integers(0, 9)),
)


class Read(NamedTuple):
    """An item as a reader finds it by its lengths alone."""

    kind: str
    of: tuple[Any, ...]
    end: tuple[Any, ...]
    follow: list[tuple[str, tuple[Any, ...]]]


def read(args: list[Any]) -> Iterator[Read]:
    at = 6
    for _ in range(args[5]):
        at += 2 + args[at + 1]
    while at < len(args):
        kind, *of, size = args[at : at + 7]
        body = args[at + 7 : at + 7 + size]
        at += 7 + size
        end, rest = (body[1 : 1 + body[0]], body[1 + body[0] :]) if body else ([], [])
        follow = []
        while rest:
            follow.append((rest[0], tuple(rest[2 : 2 + rest[1]])))
            rest = rest[2 + rest[1] :]
        yield Read(kind, tuple(of), tuple(end), follow)


@given(st.lists(st.tuples(ends, st.lists(follow_ups, max_size=3)), max_size=5), st.lists(st.binary(), max_size=3))
def test_a_reader_finds_every_item_by_its_length(given: list[tuple[End, list[FollowUp]]], entries: list[bytes]) -> None:
    settled = [Settle(2, b"1-%d" % n, f"id{n}", end, follow, b"S", 5) for n, (end, follow) in enumerate(given)]
    call = settle(KEYS, STREAMS, b"me", 7, settled, [(2, entries)] if entries else [])
    assert list(call.args[:5]) == [b"me", 7, KEYS.result_prefix, KEYS.wake, KEYS.prefix]
    found = list(read(list(call.args)))
    assert [(item.kind, item.of) for item in found] == [
        (each.end.kind, (each.stream, each.entry, each.task_id, each.outcome, each.ttl_ms)) for each in settled
    ]
    assert [item.end for item in found] == [each.end.words() for each in settled]
    assert [item.follow for item in found] == [[(f.kind, f.words()) for f in each.follow] for each in settled]


def test_every_kind_has_a_letter_of_its_own() -> None:
    kinds = [each.kind for each in (*settling.End.__args__, *settling.FollowUp.__args__)]
    assert len(set(kinds)) == len(kinds) == 11


def delivery(settled: bool = False, **meta: Any) -> Delivery:
    link = SimpleNamespace(keys=KEYS, queue="q", stored_as=lambda delivery: (b"stored", 3))
    message = Message(1, "id", "pay", [], {}, Meta(**meta) if meta else None)
    made = Delivery(link, (STREAMS[1], b"1-1"), b"", message, None, None)  # type: ignore[arg-type]
    made.settled = settled
    return made


FAILED = Outcome(LETTER, "FAILURE", b"F", 9)
STORED = Outcome(COMPLETE, "SUCCESS", b"S", 9)
PLAIN = ([], [(2, [b"1-1"])])
SCHEDULE = EndOfSchedule("job", 5, 1500, "SUCCESS")
REPLAYED = Replayed("run", "print")


@pytest.mark.parametrize(
    ("meta", "outcome", "end", "follow"),
    [
        ({}, STORED, COMPLETE, []),
        ({}, FAILED, LETTER, []),
        ({"schedule": "job", "fire_time": 5}, DONE, COMPLETE, [SCHEDULE]),
        ({"schedule": "job"}, Outcome(Retry(5, b"5m"), "RETRY"), Retry(5, b"5m"), []),
        ({"ordering_key": "k"}, DONE, COMPLETE, [NextInLane("k")]),
        ({"ordering_key": "k"}, Outcome(Release(), "RELEASED"), Release(), []),
        ({"idempotency_key": "k"}, FAILED, LETTER, [FreeClaim(KEYS.claim("pay", "k"))]),
        ({"idempotency_key": "k"}, STORED, COMPLETE, []),
        ({"replayed": REPLAYED}, DONE, COMPLETE, ["succeeded:print"]),
        ({"replayed": REPLAYED}, FAILED, LETTER, ["again:print"]),
        ({"replayed": Replayed("run", "other")}, FAILED, LETTER, ["failed:other"]),
        ({"replayed": REPLAYED}, Outcome(COMPLETE, "REVOKED", b"V"), COMPLETE, ["other:print"]),
        ({"settled": True}, STORED, Store(b"stored", 3), []),
        ({"settled": True}, FAILED, Bury(b"stored", 3, LETTER), []),
        ({"settled": True, "idempotency_key": "k", "ordering_key": "k"}, FAILED, Bury(b"stored", 3, LETTER), []),
        ({"settled": True, "replayed": REPLAYED}, FAILED, Bury(b"stored", 3, LETTER), ["again:print"]),
    ],
)
def test_what_an_outcome_comes_to(meta: dict[str, Any], outcome: Outcome, end: End, follow: list[Any]) -> None:
    ((item,), plain) = settles([(delivery(**meta), outcome, 1.5)], STREAMS)
    counted = [CountReplay(KEYS.dead_run("run"), f, RUN_TTL_MS) if isinstance(f, str) else f for f in follow]
    assert plain == []
    assert (item.stream, item.entry, item.task_id) == (2, b"1-1", "id")
    assert (item.end, list(item.follow)) == (end, counted)
    assert (item.outcome, item.ttl_ms) == (outcome.stored, outcome.ttl_ms)


def test_what_has_neither_result_nor_follow_up_is_settled_in_bulk() -> None:
    for outcome in (DONE, BEGUN):
        assert settles([(delivery(), outcome, 0.0)], STREAMS) == PLAIN
    assert settles([(delivery(replayed=REPLAYED), BEGUN, 0.0)], STREAMS) == PLAIN, "it has not ended"
    assert settles([(delivery(attempt=2), DONE, 0.0)] * 2, STREAMS) == ([], [(2, [b"1-1", b"1-1"])])


OUTCOMES = [
    DONE,
    STORED,
    FAILED,
    Outcome(COMPLETE, "REVOKED", b"V"),
    Outcome(Commit((1, 2, "INCR", "x")), "SUCCESS", b"S"),
    Outcome(Retry(5, b"5m"), "RETRY", b"R"),
    Outcome(Release(), "RELEASED"),
    Outcome(Release(2), "RELEASED"),
]


def through_a_pipe(outcome: Outcome) -> list[Any]:
    (((_, _, *plain),),) = take_frames(bytearray(pack_frame([(1, 0.5, *outcome)])))
    return plain


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_outcome_comes_back_from_a_child_as_it_was(outcome: Outcome) -> None:
    found = restored(through_a_pipe(outcome))
    assert found._replace(end=outcome.end) == outcome
    assert list(found.end.words()) == list(outcome.end.words())  # type: ignore[union-attr]
    assert (found is DONE) == (outcome is DONE)
    assert (found.end is COMPLETE) == (outcome.end is COMPLETE)


def test_those_of_a_batch_come_back_together() -> None:
    found = restored(through_a_pipe(together(OUTCOMES)))
    assert [restored(own).state for own in found.end.outcomes] == [own.state for own in OUTCOMES]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "plain", [[], [["c"]], [["?"], "SUCCESS", b"", 1], [["r", "soon", b""], "RETRY", b"", 1], [1, 2, 3, 4]]
)
def test_what_is_not_an_outcome_is_refused(plain: list[Any]) -> None:
    with pytest.raises(ValueError, match="not an outcome"):
        restored(plain)
