"""Small directed scenarios, a few seconds each: one fault at the moment where it hurts."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from support.process import Proc
from support.wait import eventually, wait_for_line

from taskq import TaskQ
from taskq.broker.keys import Keys

from .checker import Facts, Judgement, judge
from .cluster import NAMESPACE, QUEUE, Cluster
from .history import Expect, Kind, Writer, read_sorted, unpack
from .workload import GO, check_of

LEASE = 0.6
"""Seconds; short, because a scenario waits for it to run out."""
PATIENCE = 60.0
"""Seconds after which what has not ended is stuck."""
MUTANT_PATIENCE = 4.0
"""The same where something is broken, and many a message never ends."""


class Stage:
    """A cluster, and what scenarios do with it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.workers: list[Proc] = []
        self._app = TaskQ("sender", broker_url=cluster.server.url, namespace=NAMESPACE)
        self._writer = Writer(cluster.history / "sender.hist")
        self._number = 0
        self._poison: set[int] = set()

    def worker(self, *flags: str, env: dict[str, str] | None = None, wait: bool = True) -> Proc:
        """Start a worker, and wait until it has its lease."""
        process = self.cluster.worker(*(flags or ("-c", "4")), env=env)
        self.workers.append(process)
        if wait:
            consumers = f"{NAMESPACE}:{{{QUEUE}}}:consumers"
            eventually(
                lambda: any(
                    f":{process.pid}:".encode() in name for name in self.cluster.client.zrange(consumers, 0, -1)
                )
            )
        return process

    def send(
        self,
        count: int,
        name: str = "work",
        *,
        sleep: float = 0.0,
        countdown: float = 0.0,
        expect: Expect = Expect.SUCCESS,
        attempts: int = 1,
        keyed: bool = False,
    ) -> None:
        """Send *count* tasks; *keyed*: each with an idempotency key of its own."""
        for _ in range(count):
            self._number += 1
            number = self._number
            if expect is Expect.POISON:
                self._poison.add(number)
            self.invoke(number, expect=expect, attempts=attempts, countdown=countdown)
            options: dict[str, Any] = {"countdown": countdown} if countdown else {}
            if keyed:
                options["idempotency_key"] = f"key-{number}"
            self._app.send_task(name, (number, check_of(number), sleep), queue=QUEUE, **options)
            self.accepted(number)

    def invoke(
        self, number: int, *, expect: Expect = Expect.SUCCESS, attempts: int = 1, countdown: float = 0.0
    ) -> None:
        """Write down that a task is about to be sent."""
        due = time.monotonic_ns() + round(countdown * 1e9) if countdown else 0
        self._writer.write(Kind.INVOKE, number, flag=expect, attempt=attempts, run=due)

    def accepted(self, number: int) -> None:
        """Write down that it was accepted."""
        self._writer.write(Kind.OK, number)

    def begun(self, count: int) -> None:
        """Wait until *count* runs have begun."""
        eventually(lambda: self._seen(Kind.BEGIN) >= count, 60)

    def ended(self, count: int) -> None:
        """Wait until *count* runs have come to their last line."""
        eventually(lambda: self._seen(Kind.END) >= count, 60)

    def idle(self) -> None:
        """Wait until a worker blocks on its queue."""
        eventually(lambda: self.cluster.client.info("clients")["blocked_clients"])

    def _seen(self, kind: Kind) -> int:
        return sum(unpack(record).kind == kind for record in read_sorted(self.cluster.history))

    def finish(self, others: Iterable[Proc] = ()) -> Judgement:
        """Drain, stop everything, judge."""
        stuck = self.cluster.drain(MUTANT_PATIENCE if self.cluster.mutant else PATIENCE)
        self.cluster.stop([*others, *self.workers], timeout=2 if stuck or self.cluster.mutant else 10)
        self.close()
        return judge(self.facts(stuck))

    def facts(self, stuck: str = "") -> Facts:
        """All that is known after the end, with the deaths that poison has caused."""
        for record in map(unpack, read_sorted(self.cluster.history)):
            if record.kind == Kind.BEGIN and record.task in self._poison:
                self.cluster.log.add("died", record.at, pid=record.pid)
        return self.cluster.facts(stuck)

    def close(self) -> None:
        """Close the sender and its history."""
        self._app.close()
        self._writer.close()


def plain(stage: Stage) -> Judgement:
    """Nothing goes wrong."""
    stage.worker()
    stage.idle()
    stage.send(30)
    return stage.finish()


def doomed(stage: Stage) -> Judgement:
    """Tasks that fail for good."""
    stage.worker()
    stage.send(3, "doomed", expect=Expect.FAILURE, attempts=2)
    return stage.finish()


def kill(stage: Stage) -> Judgement:
    """SIGKILL while tasks run."""
    first = stage.worker()
    stage.send(6, sleep=1.5)
    stage.begun(4)
    stage.cluster.kill(first)
    stage.workers.remove(first)
    stage.worker()
    return stage.finish()


def pause(stage: Stage) -> Judgement:
    """SIGSTOP for longer than the lease, while a task runs that ends after the pause."""
    first = stage.worker()
    stage.send(1, "told")
    stage.begun(1)
    stage.worker()
    with stage.cluster.paused(first):
        stage.begun(2)
    # both have a lease again, under whatever name; a broken worker may never have one
    limit, consumers = time.monotonic() + 4 * stage.cluster.lease, Keys(NAMESPACE).queue(QUEUE).consumers
    eventually(lambda: stage.cluster.client.zcard(consumers) == 2 or time.monotonic() > limit)
    (stage.cluster.history / GO).touch()
    return stage.finish()


def lost_replies(stage: Stage) -> Judgement:
    """A producer whose messages are written, and whose replies get lost."""
    producer = stage.cluster.producer(1_000, 1_149, 150, 7)
    proxy = stage.cluster.proxy
    assert proxy is not None
    eventually(lambda: stage._seen(Kind.OK) > 10)
    while producer.running():
        # it alone uses the proxy, and it has been answered since the last loss: this reply is that of a message
        begin, lost, answered = time.monotonic_ns(), proxy.dropped, stage._seen(Kind.OK)
        proxy.drop_replies()
        eventually(lambda lost=lost: proxy.dropped > lost or not producer.running())
        stage.cluster.log.add("proxy drop", begin)
        eventually(lambda answered=answered: stage._seen(Kind.OK) > answered or not producer.running())
    proxy.drop_replies(0)
    stage.worker()
    return stage.finish()


def early_bird(stage: Stage) -> Judgement:
    """Tasks sent before the first worker ever starts."""
    stage.send(5)
    stage.worker()
    return stage.finish()


def delayed(stage: Stage) -> Judgement:
    """Delayed tasks, and a second worker should the first one die."""
    stage.worker()
    stage.send(5, countdown=0.7)
    _replace_the_dead(stage, 1.5)
    return stage.finish()


def retry(stage: Stage) -> Judgement:
    """Tasks that fail once, and a second worker should the first one die."""
    stage.worker()
    stage.send(4, "flaky", attempts=2)
    _replace_the_dead(stage, 1.0)
    return stage.finish()


def cut_settle(stage: Stage) -> Judgement:
    """The connection breaks with outcomes on their way."""
    stage.worker()
    stage.send(
        3, sleep=0.3
    )  # one slot stays free: a worker without any asks for async messages, and meets the cut first
    stage.begun(3)
    _interrupt(stage, lambda: stage.ended(3))
    return stage.finish()


def cut_fetch(stage: Stage) -> Judgement:
    """A blocking read delivers, and its reply gets lost."""
    stage.worker()
    proxy = stage.cluster.proxy
    assert proxy is not None
    stage.idle()
    begin = time.monotonic_ns()
    proxy.drop_replies(having=b":stream:")  # a renewal in the same moment is not what is to get lost
    stage.send(1)
    eventually(lambda: proxy.dropped)
    stage.cluster.log.add("proxy drop", begin)
    return stage.finish()


def beats(stage: Stage) -> Judgement:
    """Two beats for the same schedule."""
    stage.worker()
    pair = [stage.cluster.beat() for _ in range(2)]
    stage.begun(3)
    stage.cluster.stop(pair)
    return stage.finish()


def old_release(stage: Stage) -> Judgement:
    """A task that only the next release knows."""
    old = stage.worker(env={"CHAOS_RELEASE": "old", "TASKQ_UNKNOWN_TASK_DELAY": "0.5"})
    stage.send(3, "newcomer")
    wait_for_line(old, "is not known to this worker") if not stage.cluster.mutant else time.sleep(0.5)
    stage.worker(env={"TASKQ_UNKNOWN_TASK_DELAY": "0.5"})
    stage.cluster.stop([old])
    return stage.finish()


def hurry(stage: Stage) -> Judgement:
    """Two SIGTERMs while tasks run: they are handed back."""
    first = stage.worker()
    stage.send(4, sleep=1.2)
    stage.begun(4)
    begin = time.monotonic_ns()
    first.signal(signal.SIGTERM)
    time.sleep(0.1)
    first.signal(signal.SIGTERM)
    first.wait()
    stage.cluster.log.add("term worker", begin, pid=first.pid)
    stage.worker()
    return stage.finish()


def long(stage: Stage) -> Judgement:
    """Tasks that run for several leases, and a second worker that would take them over."""
    stage.worker()
    stage.send(2, sleep=2.0)
    stage.begun(2)
    stage.worker()
    return stage.finish()


def outage(stage: Stage) -> Judgement:
    """Redis is away for longer than a lease, and a new worker finds it before the old one does.

    Not noted as a fault: after an outage nothing may run twice.
    """
    stage.worker()
    stage.send(4, "told")
    stage.begun(4)
    proxy = stage.cluster.proxy
    assert proxy is not None
    proxy.refuse()
    proxy.cut()
    stage.cluster.server.kill()
    time.sleep(1.2 * stage.cluster.lease)
    stage.cluster.server.restart()
    stage.worker(env={"TASKQ_BROKER_URL": stage.cluster.server.url})
    time.sleep(0.3 * stage.cluster.lease)  # its first look at the leases of others, before the old one is back
    proxy.accept()
    limit = time.monotonic() + 2 * stage.cluster.lease
    eventually(lambda: stage._seen(Kind.BEGIN) > 4 or time.monotonic() > limit)
    (stage.cluster.history / GO).touch()
    return stage.finish()


def poison(stage: Stage) -> Judgement:
    """A task that kills the child that runs it, between others that do not."""
    stage.worker("-P", "processes", "-c", "2")
    stage.send(4)
    stage.send(1, "poison", expect=Expect.POISON)
    stage.send(4)
    return stage.finish()


def _interrupt(stage: Stage, until: Callable[[], object]) -> None:
    """Hold everything back until *until* returns, then cut: what was on its way never arrives."""
    proxy = stage.cluster.proxy
    assert proxy is not None
    begin = time.monotonic_ns()
    proxy.stall()
    asked = proxy.requests
    until()
    eventually(lambda: proxy.requests > asked)
    time.sleep(0.2)  # what was asked for may have been something else
    proxy.cut()
    proxy.resume()
    stage.cluster.log.add("proxy cut", begin)


def _replace_the_dead(stage: Stage, within: float) -> None:
    """Start another worker if the first one dies within that many seconds."""
    limit = time.monotonic() + within
    first = stage.workers[0]
    while time.monotonic() < limit:
        begin = time.monotonic_ns()
        if not first.running():
            stage.cluster.log.add("died", begin, pid=first.pid)
            stage.workers.remove(first)
            stage.worker()
            return
        time.sleep(0.01)


SCENARIOS: dict[str, Callable[[Stage], Judgement]] = {
    "plain": plain,
    "doomed": doomed,
    "kill": kill,
    "pause": pause,
    "lost replies": lost_replies,
    "early bird": early_bird,
    "delayed": delayed,
    "retry": retry,
    "cut settle": cut_settle,
    "cut fetch": cut_fetch,
    "beats": beats,
    "old release": old_release,
    "hurry": hurry,
    "long": long,
    "outage": outage,
    "poison": poison,
}


_WITHOUT_RECOVERY = ("cut settle", "cut fetch", "poison", "lost replies")
"""What only a re-read of the pending list mends must not be mended by a lease that runs out."""


def play(name: str, folder: Path, mutant: str = "") -> Judgement:
    """Play a scenario on a new cluster, whole or with a mutant."""
    lease = {"outage": 2.0}.get(name, 15.0 if name in _WITHOUT_RECOVERY else LEASE)
    with Cluster(folder, lease=lease, mutant=mutant, proxied=True) as cluster:
        return SCENARIOS[name](Stage(cluster))
