"""Every named point between two steps is a place to die, and here a process dies at every one of them.

After each death another process carries on; then nothing may be lost, nothing may have run again but what was in
flight, and nothing may be left behind.
"""

from __future__ import annotations

import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import sqlalchemy
from support.process import ROOT, Proc
from support.wait import eventually

from taskq import Topic, failpoints
from taskq.broker.keys import Keys
from taskq.contrib.sqlalchemy import create_tables, outbox
from taskq.failpoints import POINTS

from . import workload
from .checker import Verdict
from .cluster import NAMESPACE, QUEUE, Cluster
from .history import Expect, Kind, read_sorted, unpack
from .scenarios import LEASE, Stage

pytestmark = pytest.mark.slow

_CALL = re.compile(r'failpoints\.hit\("([a-z.]+)"\)')
_ROW = re.compile(r"^\| `([a-z]+\.[a-z]+)` \| (.+) \|$", re.MULTILINE)
_KEY = f"{NAMESPACE}:{{{QUEUE}}}:"


class Scene(Stage):
    """A stage with one armed process."""

    def __init__(self, cluster: Cluster, point: str) -> None:
        super().__init__(cluster)
        self._armed_at = time.monotonic_ns()
        self._once = cluster.folder / "died"
        self.armed = {"TASKQ_FAILPOINT": point, "TASKQ_FAILPOINT_ONCE": str(self._once)}

    def died(self, process: Proc | None = None) -> None:
        """Wait for the death, and note it. Without *process*, of a child whose worker lives on."""
        begin = time.monotonic_ns()
        if process is None:
            eventually(lambda: self._once.exists() and self._once.read_text())
            # when it died nobody has seen; its work may have been started again before we look
            self.cluster.log.add("died", self._armed_at, pid=int(self._once.read_text()))
            return
        eventually(lambda: not process.running(), message=lambda: f"it lives:\n{process.output()}")
        assert process.wait() == -signal.SIGKILL, process.output()
        assert self._once.exists()
        self.cluster.log.add("died", begin, pid=process.pid)
        if process in self.workers:
            self.workers.remove(process)

    def mixed_load(self) -> None:
        """A few of everything."""
        self.send(6)
        self.send(6, "awork")
        self.send(2, sleep=0.05)
        self.send(2, "flaky", attempts=2)
        self.send(1, "doomed", expect=Expect.FAILURE, attempts=2)
        self.send(2, countdown=0.3)
        self.send(2, keyed=True)


def busy_worker(scene: Scene) -> None:
    """A worker under load."""
    scene.mixed_load()
    scene.died(scene.worker(env=scene.armed, wait=False))
    scene.worker()


def collecting(scene: Scene) -> None:
    """A worker that collects calls of a batch task, some of them too few for a batch."""
    scene.send(7, "bulk")
    scene.mixed_load()
    scene.died(scene.worker(env=scene.armed, wait=False))
    scene.worker()


def rationed(scene: Scene) -> None:
    """A worker whose messages wait for permits."""
    scene.send(12, "limited")
    scene.mixed_load()
    scene.died(scene.worker(env=scene.armed, wait=False))
    scene.worker()


def idle_worker(scene: Scene) -> None:
    """A worker that blocks on empty queues when the load comes."""
    worker = scene.worker(env=scene.armed, wait=False)
    eventually(lambda: scene.cluster.client.info("clients")["blocked_clients"] or not worker.running())
    scene.mixed_load()
    scene.died(worker)
    scene.worker()


def picking(scene: Scene) -> None:
    """A worker whose one thread is busy, with async messages behind sync ones."""
    scene.send(3, sleep=0.5)
    scene.send(6, "awork")
    scene.send(2)
    scene.died(scene.worker("-c", "1", env=scene.armed, wait=False))
    scene.worker()


def revoking(scene: Scene) -> None:
    """A worker of a queue in which something is revoked."""
    scene.cluster.client.zadd(_KEY + "revoked", {"nobody": time.time() * 1000 + 60_000})
    scene.cluster.client.expire(_KEY + "revoked", 60)
    busy_worker(scene)


def cut_off(scene: Scene) -> None:
    """A worker whose connections break while tasks run, and while it waits in a read: it has a slot free."""
    worker = scene.worker(env=scene.armed)
    scene.send(3, sleep=0.5)
    scene.begun(3)
    eventually(lambda: scene.cluster.client.info("clients")["blocked_clients"])
    scene.cluster.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    scene.died(worker)
    scene.worker()


def new_level(scene: Scene) -> None:
    """A priority that the worker has not met yet."""
    worker = scene.worker(env=scene.armed)
    scene.send(3)
    scene.ended(3)
    scene.cluster.client.sadd(_KEY + "levels", "9")
    scene.cluster.client.publish(_KEY + "wake", "levels")
    scene.died(worker)
    scene.worker()


def lease_lost(scene: Scene) -> None:
    """A worker that was paused for longer than its lease."""
    first = scene.worker(env=scene.armed)
    scene.send(1, sleep=1.5)
    scene.begun(1)
    scene.worker()
    with scene.cluster.paused(first):
        scene.begun(2)
    scene.died(first)


def recovering(scene: Scene, *flags: str) -> None:
    """A worker that takes over from a dead one."""
    dead = scene.worker()
    scene.send(4, sleep=0.3)
    scene.begun(4)
    scene.cluster.kill(dead)
    scene.workers.remove(dead)
    scene.died(scene.worker(*flags, env=scene.armed, wait=False))
    scene.worker()


def suspecting(scene: Scene) -> None:
    """A worker that runs a dead one's messages itself, because it has no children for them."""
    recovering(scene, "-P", "solo")


def stopping(scene: Scene) -> None:
    """A worker that is told to stop, twice, while tasks run and wait."""
    worker = scene.worker("-c", "2", env=scene.armed)
    scene.send(4, sleep=0.4)
    scene.begun(2)
    worker.signal(signal.SIGTERM)
    time.sleep(0.05)
    if worker.running():
        worker.signal(signal.SIGTERM)
    scene.died(worker)
    scene.worker()


def pool_parent(scene: Scene) -> None:
    """The parent of a processes pool."""
    scene.send(12)
    scene.send(2, sleep=0.05)
    scene.died(scene.worker("-P", "processes", "-c", "2", env=scene.armed, wait=False))
    scene.worker()


def pool_poisoned(scene: Scene) -> None:
    """The parent of a child that a task has killed."""
    scene.send(4)
    scene.send(1, "poison", expect=Expect.POISON)
    scene.died(scene.worker("-P", "processes", "-c", "2", env=scene.armed, wait=False))
    scene.worker("-P", "processes", "-c", "2")


def pool_child(scene: Scene) -> None:
    """A child of a processes pool; its parent lives."""
    scene.send(12)
    scene.send(2, sleep=0.05)
    scene.worker("-P", "processes", "-c", "2", env=scene.armed)
    scene.died()


def producing(scene: Scene) -> None:
    """A producer, which is started again and goes on."""
    scene.died(scene.cluster.producer(1_000, 1_150, 2_000, 4, env=scene.armed))
    assert scene.cluster.producer(1_000, 1_150, 2_000, 4).wait() == 0
    scene.worker()


def beating(scene: Scene) -> None:
    """A beat; the next one makes up for what it missed."""
    scene.worker()
    scene.died(scene.cluster.beat(env=scene.armed))
    ticks = _begun(scene)
    other = scene.cluster.beat()
    eventually(lambda: _begun(scene) > ticks + 1)
    scene.cluster.stop([other])


def spooling(scene: Scene) -> None:
    """A producer that cannot reach Redis for a while; the next one empties its spool."""
    scene.cluster.server.kill()
    spool = {
        "TASKQ_SPOOL_PATH": str(scene.cluster.folder / "spool.sqlite"),
        "TASKQ_BROKER_DEADLINE": "0.2",
    }
    producer = scene.cluster.producer(1_000, 1_030, 100, 4, env=spool | scene.armed)
    eventually(lambda: not producer.running() or scene._seen(Kind.INVOKE) > 3)
    scene.cluster.server.restart()
    scene.died(producer)
    assert scene.cluster.producer(1_000, 1_030, 100, 4, env=spool).wait() == 0
    scene.worker()


def relaying(scene: Scene) -> None:
    """An outbox relay; the next one goes on."""
    url = f"sqlite:///{scene.cluster.folder / 'outbox.sqlite'}"
    engine = sqlalchemy.create_engine(url)
    create_tables(engine)
    with engine.begin() as connection:
        for number in range(1, 11):
            scene.invoke(number)
            outbox.delay(connection, workload.work, number, workload.check_of(number))
            outbox.publish(connection, Topic("outboxed"), number, key="one")
    for number in range(1, 11):
        scene.accepted(number)
    engine.dispose()
    relay = ("-m", "taskq", "outbox-relay", "-A", "chaos.workload:app", "--burst", "--page", "4")
    scene.died(scene.cluster.start(*relay, env=scene.armed | {"TASKQ_DATABASE_URL": url}))
    assert scene.cluster.start(*relay, env={"TASKQ_DATABASE_URL": url}).wait() == 0
    events = scene.cluster.client.xrange(Keys(NAMESPACE).topic("outboxed").events)
    assert [fields[b"m"] for _, fields in events] == [msgspec.msgpack.encode(number) for number in range(1, 11)]
    scene.worker()


def _begun(scene: Scene) -> int:
    return sum(unpack(record).kind == Kind.BEGIN for record in read_sorted(scene.cluster.history))


SCENES: dict[str, Callable[[Scene], None]] = {
    "send": producing,
    "sync": producing,
    "asend": producing,
    "batch": producing,
    "spool": spooling,
    "relay": relaying,
    "register": busy_worker,
    "exchange": busy_worker,
    "pick": picking,
    "accept": busy_worker,
    "revoked": revoking,
    "block": idle_worker,
    "reclaim": cut_off,
    "claim": busy_worker,
    "levels": new_level,
    "lost": lease_lost,
    "run": busy_worker,
    "collect": collecting,
    "permit": rationed,
    "unpark": rationed,
    "arun": busy_worker,
    "retry": busy_worker,
    "dead": busy_worker,
    "promote": busy_worker,
    "renew": busy_worker,
    "recover": recovering,
    "suspect": suspecting,
    "drain": stopping,
    "handback": stopping,
    "stop": stopping,
    "pool": pool_parent,
    "pool.died": pool_poisoned,
    "child": pool_child,
    "beat": beating,
}
"""What makes a process come to the points of a group (or to one point)."""

NTH = {
    "exchange.send": 3,
    "exchange.replied": 2,
    "exchange.closed": 2,
    "run.begin": 4,
    "run.end": 3,
    "arun.end": 2,
    "collect.end": 2,
    "sync.sent": 9,
    "send.page": 4,
    "asend.page": 3,
    "asend.accepted": 2,
    "relay.published": 2,
    "relay.forgotten": 2,
    "relay.done": 2,
    "beat.clock": 2,
    "beat.fired": 2,
}
"""Points that kill later than at their first hit."""


def test_the_table_of_points_is_complete() -> None:
    """Each point stands once in the code and once in the table, and has a scene."""
    own = Path(failpoints.__file__)
    sources = [path for path in (ROOT / "taskq").rglob("*.py") if path != own]
    found = Counter(name for path in sources for name in _CALL.findall(path.read_text()))
    assert found == Counter(list(POINTS))
    assert len(POINTS) >= 40
    assert all(name in SCENES or name.partition(".")[0] in {*SCENES, "replay"} for name in POINTS)
    documented = _ROW.findall((ROOT / "docs" / "chaos.md").read_text().partition("## Failpoints")[2])
    assert dict(documented) == POINTS


@pytest.mark.parametrize("name", [name for name in POINTS if not name.startswith("replay.")])
def test_death_at(name: str, tmp_path: Path) -> None:
    play = SCENES.get(name) or SCENES[name.partition(".")[0]]
    with Cluster(tmp_path / "chaos", lease=LEASE, proxied=False) as cluster:
        scene = Scene(cluster, f"{name}:{NTH.get(name, 1)}")
        play(scene)
        found = scene.finish()
    assert found.verdict is Verdict.VALID, found.text


# replay.sent, on the way to another queue: tests/dlq/test_killed.py
@pytest.mark.parametrize("name", [name for name in POINTS if name.startswith("replay.") and name != "replay.sent"])
def test_death_in_a_replay(name: str, tmp_path: Path) -> None:
    """A replay that dies and is repeated puts each dead letter back once."""
    with Cluster(tmp_path / "chaos", lease=LEASE, proxied=False) as cluster:
        scene = Scene(cluster, name)
        worker = scene.worker()
        scene.send(5, "doomed", expect=Expect.FAILURE, attempts=2)
        assert not cluster.drain(5)
        cluster.stop([worker])
        replay = ("-m", "taskq", "dlq", "replay", "-A", "chaos.workload:app", "--all")
        scene.died(cluster.start(*replay, env=scene.armed))
        assert cluster.start(*replay).wait() == 0
        scene.worker()
        assert not cluster.drain(5)
        cluster.stop(scene.workers)
        scene.close()
        facts = cluster.facts()
    runs = Counter(record.task for record in map(unpack, facts.packed) if record.kind == Kind.BEGIN)
    assert runs == dict.fromkeys(range(1, 6), 4), "two attempts, then two more after one replay"
    assert [len(dead) for dead in facts.log.dead.values()] == [2] * 5
    assert not facts.left_behind
