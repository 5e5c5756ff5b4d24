"""A model of one queue, against the real scripts on a real Redis: any order of steps that workers, zombies and
operators can take.

Steps are whole script calls, so every interleaving of processes is one of these sequences. Nobody sleeps: a lease
runs out, and a delayed message comes due, because a rule moves its score into the past.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from taskq.broker import calls, scripts
from taskq.broker.keys import FRONT, GROUP, Keys
from taskq.broker.link.address import parse
from taskq.broker.link.sync import SyncBroker
from taskq.broker.scripts import settling
from taskq.broker.scripts.settling import End, Settle, settle
from taskq.embedded import EmbeddedRedis

from . import mutants

NAMESPACE = "model"
WORKERS = 3
HOUR = 3_600_000
COMPLETE, COMMIT, PLAIN, RETRY, DEAD, RELEASE = "complete", "commit", "plain", "retry", "dead letter", "release"

KINDS = st.sampled_from((DEAD, COMMIT, RETRY, RELEASE, COMPLETE, PLAIN))


class Delivery(NamedTuple):
    """What one fetch handed to one worker."""

    consumer: bytes
    stream: bytes
    entry: bytes
    data: bytes


@dataclass
class Message:
    """What the model knows of a message."""

    place: str
    """queued, delayed, held, dead or done."""
    holder: Delivery | None = None
    committed: list[bytes] = field(default_factory=list)
    """Final outcomes; may be one."""
    effects: int = 0
    """How often the commands of its transaction were committed."""


class Queue(RuleBasedStateMachine):
    """The model. Messages are known by their bytes."""

    url = ""
    finished = 0
    """Histories that were brought to their end."""
    deliveries = Bundle("deliveries")
    sent = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        import redis

        self.client: Any = redis.Redis.from_url(self.url, protocol=2, socket_timeout=10)
        self.broker = SyncBroker(parse(self.url), 5, 5)
        self.keys = Keys(NAMESPACE).queue("q")
        self.streams = scripts.streams_of(self.keys, [5, 9])
        self.messages: dict[bytes, Message] = {}
        self.names = [self._fresh_name(index) for index in range(WORKERS)]
        self.leases: set[bytes] = set()
        self.expired: set[bytes] = set()
        self.watched = False
        """Whether somebody could renew lately."""
        self.sequence = 0
        self.runs = 0

    def teardown(self) -> None:
        """At the end everything can be brought to its end by one good worker."""
        try:
            self._finish_everything()
            type(self).finished += 1
        finally:
            self.client.flushall()
            self.client.close()
            self.broker.close()

    @initialize(count=st.integers(0, 2))
    def some_workers_start(self, count: int) -> None:
        for worker in range(count):
            self.register(worker)

    # --- what producers do -------------------------------------------------------------------------------------

    @rule(target=sent, delay=st.booleans(), level=st.sampled_from((5, 9)), lost_reply=st.booleans())
    def enqueue(self, delay: bool, level: int, lost_reply: bool) -> bytes:
        self.sequence += 1
        data = b"m%d" % self.sequence
        if delay:
            members = (f"+{HOUR}", scripts.member(level, data))
            call = scripts.delay(self.keys, b"p", self.sequence, members)
        else:
            call = scripts.enqueue(self.keys, b"p", self.sequence, level, [data])
        assert self._run(call)
        if lost_reply:
            assert not self._run(call), "the same call again writes nothing"
        self.messages[data] = Message("delayed" if delay else "queued")
        return data

    @rule(level=st.sampled_from((5, 9)))
    def garbage(self, level: int) -> None:
        self.sequence += 1
        data = b"g%d" % self.sequence
        self.client.xadd(self.keys.stream(level), {"x": data})
        self.messages[data] = Message("queued")

    # --- what workers do ---------------------------------------------------------------------------------------

    @rule(worker=st.integers(0, WORKERS - 1))
    def register(self, worker: int) -> None:
        """A worker starts, or begins again under a new name if its lease was taken."""
        if self.names[worker] not in self.leases:
            self.names[worker] = self._fresh_name(worker)
        self._run(scripts.register(self.keys, self.names[worker], HOUR, self.streams))
        self.leases.add(self.names[worker])
        self.expired.discard(self.names[worker])

    @rule(target=deliveries, worker=st.integers(0, WORKERS - 1), want=st.integers(1, 3))
    def fetch(self, worker: int, want: int) -> Any:
        consumer = self.names[worker]
        reply = self._run(settle(self.keys, self.streams, consumer, want))
        if consumer not in self.leases:
            assert reply == [0], "a worker without a lease fetches nothing"
            return multiple()
        found = []
        for number, entries in reply[1]:
            for entry, fields in entries:
                data = fields[1]
                delivery = Delivery(consumer, self.streams[number - 1], entry, data)
                assert self.messages[data].place == "queued"
                self.messages[data].place, self.messages[data].holder = "held", delivery
                found.append(delivery)
        waiting = sum(message.place == "queued" for message in self.messages.values())
        assert len(found) == want or waiting == 0, "a fetch leaves nothing that it has room for"
        return multiple(*found)

    @rule(worker=st.integers(0, WORKERS - 1))
    def reread(self, worker: int) -> None:
        """After a lost reply a worker reads its own pending list: all that it holds, and nothing else."""
        consumer = self.names[worker]
        if consumer not in self.leases:
            return
        held = {message.holder for message in self.messages.values() if message.place == "held"}
        mine = {delivery for delivery in held if delivery is not None and delivery.consumer == consumer}
        found = set()
        for stream in self.streams:
            for _, entries in self.client.xreadgroup(GROUP, consumer, {stream: "0"}, count=1000) or ():
                found |= {Delivery(consumer, stream, entry, next(iter(fields.values()))) for entry, fields in entries}
        assert found == mine

    @rule(worker=st.integers(0, WORKERS - 1))
    def heartbeat(self, worker: int) -> None:
        consumer = self.names[worker]
        renewed, _ = self._run(scripts.heartbeat(self.keys, consumer, HOUR))
        assert bool(renewed) is (consumer in self.leases)
        if renewed and not self.watched:
            self.watched = True
            self.expired.clear()
        self.expired.discard(consumer)

    @precondition(lambda self: self._owned())
    @rule(index=st.integers(0, 9), kind=KINDS, lost_reply=st.booleans())
    def settle_own(self, index: int, kind: str, lost_reply: bool) -> None:
        """A worker settles what it holds."""
        owned = self._owned()
        self._settle_and_check(owned[index % len(owned)], kind, lost_reply)

    @rule(delivery=deliveries, kind=KINDS, lost_reply=st.booleans())
    def settle_any(self, delivery: Delivery, kind: str, lost_reply: bool) -> None:
        """Whoever once held it settles it: its owner, or a zombie; perhaps twice."""
        self._settle_and_check(delivery, kind, lost_reply)

    def _settle_and_check(self, delivery: Delivery, kind: str, lost_reply: bool) -> None:
        self.runs += 1
        message = self.messages[delivery.data]
        if kind in (RETRY, RELEASE) and delivery.data.startswith(b"g"):
            return  # what cannot be decoded is never retried or released
        outcome = {COMPLETE: b"S", COMMIT: b"S", DEAD: b"F", RETRY: b"R"}.get(kind, b"") + b"%d" % self.runs
        before = self._outcome(delivery.data)
        for _ in range(1 + lost_reply):
            reply = self._settle(delivery, kind, outcome)
            assert (reply[0] == 1) is (delivery.consumer in self.leases)
        if delivery.consumer not in self.leases or message.holder != delivery:
            assert self._outcome(delivery.data) == before, "a stale worker wrote an outcome"
            return
        message.holder = None
        message.place = {
            COMPLETE: "done",
            COMMIT: "done",
            PLAIN: "done",
            RETRY: "delayed",
            DEAD: "dead",
            RELEASE: "queued",
        }[kind]
        if kind in (COMPLETE, COMMIT, DEAD):
            assert self._outcome(delivery.data) == outcome
        if kind in (COMPLETE, COMMIT, PLAIN, DEAD):
            message.committed.append(outcome)
        if kind == COMMIT:
            message.effects += 1

    @rule(delivery=deliveries)
    def mark(self, delivery: Delivery) -> None:
        """A suspect is written down as running."""
        answer = self._run(scripts.mark(self.keys, delivery.stream, delivery.consumer, delivery.entry))
        owned = delivery.consumer in self.leases and self.messages[delivery.data].holder == delivery
        assert bool(answer) is owned

    # --- time, death, recovery ---------------------------------------------------------------------------------

    @rule(worker=st.integers(0, WORKERS - 1))
    def lease_runs_out(self, worker: int) -> None:
        """The worker was killed, or paused: it may come back as a zombie."""
        if self.names[worker] in self.leases:
            self.client.zadd(self.keys.consumers, {self.names[worker]: 1}, xx=True)
            self.expired.add(self.names[worker])

    @rule()
    def outage(self) -> None:
        """Nobody can renew, for so long that every lease runs out."""
        for name in self.leases:
            self.client.zadd(self.keys.consumers, {name: 1}, xx=True)
        self.expired |= self.leases
        self.client.delete(self.keys.renewed)
        self.watched = False

    @rule(page=st.integers(1, 3))
    def recover(self, page: int) -> None:
        """One page of a recovery; one that stops here is one that died half way."""
        _, _, _, who = self._run(scripts.recover(self.keys, self.streams, b"", 1, page))
        if who:
            assert who not in self.leases or (self.watched and who in self.expired), "only the dead are recovered"
            self._retired(who)
        else:
            assert not (self.watched and self.expired)

    @rule(worker=st.integers(0, WORKERS - 1))
    def late_read(self, worker: int) -> None:
        """A blocking read of a worker that has lost its lease delivers at last, to nobody."""
        consumer = self.names[worker]
        if consumer in self.leases or not self.client.exists(self.streams[0]):
            return
        for stream in self.streams:
            for _, entries in self.client.xreadgroup(GROUP, consumer, {stream: ">"}, count=1) or ():
                for entry, fields in entries:
                    message = self.messages[next(iter(fields.values()))]
                    message.place = "held"
                    message.holder = Delivery(consumer, stream, entry, next(iter(fields.values())))

    @rule()
    def adopt(self) -> None:
        """A worker looks for deliveries that no lease covers; recovery then takes them."""
        self._run(scripts.adopt(self.keys, self.streams))

    @rule(worker=st.integers(0, WORKERS - 1), page=st.integers(1, 3))
    def hand_back(self, worker: int, page: int) -> None:
        """A worker stops in order, or dies while it does."""
        if self.names[worker] in self.leases:
            self._run(scripts.recover(self.keys, self.streams, self.names[worker], 0, page))
            self._retired(self.names[worker])

    @rule()
    def time_passes(self) -> None:
        """Everything that is delayed comes due."""
        for member in self.client.zrange(self.keys.delayed, 0, -1):
            self.client.zadd(self.keys.delayed, {member: 1})

    @rule(page=st.integers(1, 3))
    def promote(self, page: int) -> None:
        due = {member[1:] for member in self.client.zrangebyscore(self.keys.delayed, 0, 1)}
        moved, _ = self._run(scripts.promote(self.keys, page))
        assert moved == min(page, len(due))
        here = {member[1:] for member in self.client.zrange(self.keys.delayed, 0, -1)}
        for data in due - here:
            self.messages[data].place = "queued"

    # --- what operators do -------------------------------------------------------------------------------------

    @rule(data=sent)
    def revoke(self, data: bytes) -> None:
        remembered = self._run(scripts.revoke(self.keys, data.decode(), HOUR))
        outcome = self._outcome(data)
        assert bool(remembered) is (outcome is None or outcome.startswith(b"R"))

    @rule(data=consumes(sent))
    def replay(self, data: bytes) -> None:
        for entry, fields in self.client.xrange(self.keys.dead):
            if fields[b"m"] == data:
                five = (entry, "", "5", data, data.decode())
                assert self._run(scripts.replay(self.keys, five)) == 1
                assert self._run(scripts.replay(self.keys, five)) == 0
                self.messages[data].place = "queued"
                self.messages[data].committed.clear()

    @rule()
    def flush_scripts(self) -> None:
        self.client.script_flush()

    # --- what must always hold ---------------------------------------------------------------------------------

    @invariant()
    def each_message_is_in_one_place(self) -> None:
        """And committed at most once, with its effects; and leases are as the model knows them."""
        found: dict[bytes, list[str]] = {data: [] for data in self.messages}
        look = self.client.pipeline(transaction=False)
        for stream in self.streams:
            look.xrange(stream)
            look.xpending_range(stream, GROUP, "-", "+", 1000)
        look.zrange(self.keys.delayed, 0, -1)
        look.xrange(self.keys.dead)
        look.zrange(self.keys.consumers, 0, -1)
        effects = [data for data, message in self.messages.items() if message.place == "done" or message.effects]
        for data in effects:
            look.get(self._effect(data))
        replies = look.execute(raise_on_error=False)
        for _ in self.streams:
            entries, pending = replies.pop(0), replies.pop(0)
            held = set() if isinstance(pending, Exception) else {row["message_id"] for row in pending}
            for entry, fields in entries:
                found[next(iter(fields.values()))].append("held" if entry in held else "queued")
        delayed, dead, names, *counts = replies
        for member in delayed:
            found[member[1:]].append("delayed")
        for _, fields in dead:
            found[fields[b"m"]].append("dead")
        assert found == {
            data: [] if message.place == "done" else [message.place] for data, message in self.messages.items()
        }
        assert all(len(message.committed) <= 1 for message in self.messages.values())
        assert [int(count or 0) for count in counts] == [self.messages[data].effects for data in effects]
        assert {name for name in names if not name.startswith(b"!")} == self.leases

    # --- helpers -----------------------------------------------------------------------------------------------

    def _owned(self) -> list[Delivery]:
        """What is held by workers with a lease."""
        holders = (message.holder for message in self.messages.values())
        return [holder for holder in holders if holder is not None and holder.consumer in self.leases]

    def _retired(self, consumer: bytes) -> None:
        """Its lease is gone; what it held is moved, or will be with the next pages."""
        self.leases.discard(consumer)
        self.expired.discard(consumer)
        left = {(stream, row["message_id"]) for stream in self.streams for row in self._pending(stream, consumer)}
        for message in self.messages.values():
            holder = message.holder
            if holder is not None and holder.consumer == consumer and (holder.stream, holder.entry) not in left:
                message.place, message.holder = "queued", None

    def _settle(self, delivery: Delivery, kind: str, outcome: bytes) -> Any:
        number = self.streams.index(delivery.stream) + 1
        if kind == PLAIN:
            return self._run(settle(self.keys, self.streams, delivery.consumer, 0, (), [(number, [delivery.entry])]))
        ends: dict[str, End] = {
            COMPLETE: settling.COMPLETE,
            COMMIT: settling.Commit((1, 2, "INCR", self._effect(delivery.data))),
            RETRY: settling.Retry(HOUR, scripts.member(5, delivery.data)),
            DEAD: settling.DeadLetter(delivery.data, b"evidence", "fingerprint", b"label"),
            RELEASE: settling.Release(0),
        }
        stored = b"" if kind == RELEASE else outcome
        item = Settle(number, delivery.entry, delivery.data.decode(), ends[kind], (), stored, HOUR)
        return self._run(settle(self.keys, self.streams, delivery.consumer, 0, [item]))

    def _finish_everything(self) -> None:
        for name in list(self.leases):
            self.client.zadd(self.keys.consumers, {name: 1}, xx=True)
        self.client.set(self.keys.renewed, f"{time.time_ns() // 10**6} {HOUR} 0")
        self._run(scripts.adopt(self.keys, self.streams))
        while True:
            _, more, _, who = self._run(scripts.recover(self.keys, self.streams, b"", 1))
            if not more and not who:
                break
        self.time_passes()
        while self._run(scripts.promote(self.keys))[0]:
            pass
        self._run(scripts.register(self.keys, b"h:1:last", HOUR, self.streams))
        seen = []
        while rows := self._run(settle(self.keys, self.streams, b"h:1:last", 100))[1]:
            for number, entries in rows:
                for entry, fields in entries:
                    seen.append(fields[1])
                    delivery = Delivery(b"h:1:last", self.streams[number - 1], entry, fields[1])
                    self._settle(delivery, PLAIN, b"")
        open_ones = [data for data, message in self.messages.items() if message.place not in ("done", "dead")]
        assert sorted(seen) == sorted(open_ones), "each open message can be run to its end, once"
        self._run(scripts.recover(self.keys, self.streams, b"h:1:last", 0))
        assert not self.client.exists(self.keys.consumers)
        assert all(self.client.xlen(self.keys.stream(level)) == 0 for level in (FRONT, 5, 9))

    def _pending(self, stream: bytes, consumer: bytes | None = None) -> list[dict[str, Any]]:
        if not self.client.exists(stream) or not self.client.xinfo_groups(stream):
            return []
        found: list[dict[str, Any]] = self.client.xpending_range(stream, GROUP, "-", "+", 1000, consumer)
        return found

    def _effect(self, data: bytes) -> bytes:
        return self.keys.stream_prefix + b"effect:" + data

    def _outcome(self, data: bytes) -> bytes | None:
        found: bytes | None = self.client.get(self.keys.result(data.decode()))
        return found

    def _run(self, call: calls.Call) -> Any:
        return self.broker.run(call)

    def _fresh_name(self, index: int) -> bytes:
        self._named = getattr(self, "_named", 0) + 1
        return b"h:%d:%d" % (index, self._named)


SMALL = settings(
    max_examples=300,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def private_server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(appendonly=False) as server:
        yield server


@pytest.mark.slow
def test_every_order_of_steps_keeps_the_guarantees(private_server: EmbeddedRedis) -> None:
    machine = type("Queue", (Queue,), {"url": private_server.url})
    run_state_machine_as_test(machine, settings=SMALL)
    assert machine.finished


@pytest.mark.slow
@pytest.mark.parametrize("name", ["no-dedup", "no-xdel", "dead-dropped", "stop-drops", "group-at-end"])
def test_the_model_catches(name: str, private_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model under test: scripts that are broken on purpose do not pass it."""
    for script in ("ENQUEUE", "DELAY", "REGISTER", "HEARTBEAT", "RECOVER"):
        monkeypatch.setattr(scripts, script, getattr(scripts, script))
    monkeypatch.setattr(settling, "SETTLE", settling.SETTLE)
    mutants.apply(name)
    machine = type("Queue", (Queue,), {"url": private_server.url})
    with pytest.raises((AssertionError, KeyError)):
        run_state_machine_as_test(machine, settings=settings(SMALL, phases=[Phase.generate]))
