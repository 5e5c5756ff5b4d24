"""The purge script: what no worker has goes, as REVOKED; what one has stays."""

from __future__ import annotations

from typing import Any

from taskq.broker import scripts
from taskq.broker.calls import Arg

DEFAULT = 2
"""Number of the default level's stream."""


def purge(bench: Any, *quads: Arg) -> int:
    fives = [word for at in range(0, len(quads), 4) for word in (*quads[at : at + 4], "")]  # none has an ordering key
    return int(bench.run(scripts.purge(bench.keys, bench.streams, 60_000, b"V-purged", fives)))


def add(bench: Any, message: bytes = b"x") -> bytes:
    return bytes(bench.client.xadd(bench.streams[1], {"m": message}))


def test_a_waiting_message_ends_as_revoked(bench: Any) -> None:
    entry = add(bench)
    assert purge(bench, DEFAULT, entry, "a", "") == 1
    assert bench.messages() == []
    assert bench.client.get(bench.keys.result("a")) == b"V-purged"
    assert 0 < bench.client.pttl(bench.keys.result("a")) <= 60_000


def test_what_a_worker_has_stays(bench: Any) -> None:
    (running,) = bench.fetch(b"running")
    waiting = add(bench)
    assert purge(bench, DEFAULT, running, "a", "", DEFAULT, waiting, "b", "") == 1
    assert bench.pending() == [running]
    assert bench.messages() == [b"running"]
    assert not bench.client.exists(bench.keys.result("a"))


def test_a_second_sending_changes_nothing(bench: Any) -> None:
    entry = add(bench)
    purge(bench, DEFAULT, entry, "a", "")
    before = bench.snapshot()
    assert purge(bench, DEFAULT, entry, "a", "") == 0
    assert bench.snapshot() == before


def test_a_delayed_message_goes_by_its_member(bench: Any) -> None:
    bench.client.zadd(bench.keys.delayed, {b"5one": 1, b"5two": 2})
    assert purge(bench, 0, b"5one", "a", "", 0, b"5never", "c", "") == 1
    assert list(bench.delayed()) == [b"5two"]
    assert not bench.client.exists(bench.keys.result("c"))


def test_who_waits_is_told(bench: Any, listen: Any) -> None:
    channel = listen(b"bench:client:1")
    bench.run(scripts.wait(bench.keys, "a", b"bench:client:1"))
    purge(bench, DEFAULT, add(bench), "a", "")
    assert channel.heard() == [b"a\nV-purged"]
    assert not bench.client.hexists(bench.keys.waiting, "a")


def test_an_idempotency_key_is_given_free_by_its_own_message_only(bench: Any) -> None:
    claim = bench.keys.claim("pay", "order-1")
    bench.client.set(claim, "other", px=60_000)
    purge(bench, DEFAULT, add(bench), "a", claim)
    assert bench.client.get(claim) == b"other"
    purge(bench, DEFAULT, add(bench), "other", claim)
    assert not bench.client.exists(claim)


def test_what_is_no_message_leaves_no_outcome(bench: Any) -> None:
    purge(bench, DEFAULT, add(bench, b"garbage"), "", "")
    assert not list(bench.client.scan_iter("bench:{q}:result:*"))


def test_without_memory_the_state_is_kept_or_nothing(bench: Any) -> None:
    entry = add(bench)
    bench.fill_up()
    assert purge(bench, DEFAULT, entry, "a", "") == 1
    bench.make_room()
    assert bench.messages() == []
