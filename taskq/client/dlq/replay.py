"""Puts dead letters back: page by page, each at most once, however many do it, even if one of them dies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from taskq import failpoints
from taskq.broker import scripts
from taskq.broker.calls import Arg
from taskq.broker.keys import Keys, QueueKeys
from taskq.broker.link.sync import SyncBroker
from taskq.client.dlq.letter import DeadLetter
from taskq.client.dlq.pace import Pace
from taskq.client.dlq.revive import NewArguments, revived, routed
from taskq.client.dlq.runs import DONE, Runs
from taskq.client.dlq.selection import pages

PAGE = 250
"""Most dead letters in one script call: about a millisecond of Redis."""


@dataclass(frozen=True, slots=True)
class Job:
    """One replay, whatever it is about."""

    run: str
    """Its id."""
    actor: str
    where: str = "all"
    """Which dead letters are meant, in words."""
    to: str | None = None
    """The queue they go to; None for the one they died in."""
    most: int | None = None
    """Most of one fingerprint that the run may put back in all."""
    change: NewArguments | None = None
    task: str | None = None
    """The name of their task from now on; None for the one they have."""


class Replayer:
    """Puts dead letters back for one job.

    Args:
        broker: runs the calls.
        keys: of the namespace.
        job: what the replay is.
        rate: most a second; None for no limit.
        progress: told after each page how many were dealt with so far.

    Raises:
        ConfigError: *rate* cannot be used.
    """

    def __init__(
        self,
        broker: SyncBroker,
        keys: Keys,
        job: Job,
        *,
        rate: float | str | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        self._broker = broker
        self._keys = keys
        self._job = job
        self._pace = Pace(rate, PAGE)
        self._progress = progress
        self._begun: set[str] = set()
        self._done = 0

    def put_back(self, letters: Iterable[DeadLetter]) -> int:
        """Put *letters* back; how many the run has put back by now, in all queues.

        Raises:
            BrokerError: Redis could not be asked, or has no memory; nothing is lost, and it may be repeated.
        """
        for page in pages(letters, self._pace.page):
            self._send(page)
        return sum(Runs(self._broker, self._keys.queue(name)).replayed(self._job.run) for name in self._begun)

    def finish(self, state: str = DONE) -> None:
        """Write down that the run is over."""
        for name in self._begun:
            Runs(self._broker, self._keys.queue(name)).note(self._job.run, state=state)

    def _send(self, page: list[DeadLetter]) -> None:
        job, keys = self._job, self._keys.queue(page[0].queue)
        runs = Runs(self._broker, keys)
        if keys.queue not in self._begun:
            runs.begin(job.run, job.actor, job.where, job.to or "")
            self._begun.add(keys.queue)
        self._pace.wait(len(page))
        if failpoints.ARMED:
            failpoints.hit("replay.page")
        if job.to is None or job.to == keys.queue:
            self._to_its_queue(keys, page)
        else:
            self._to_another(keys, self._keys.queue(job.to), page)
        if failpoints.ARMED:
            failpoints.hit("replay.done")
        self._done += len(page)
        runs.note(job.run)
        if self._progress is not None:
            self._progress(self._done)

    def _to_its_queue(self, keys: QueueKeys, page: list[DeadLetter]) -> None:
        job = self._job
        fives: list[Arg] = []
        for letter in page:
            message = revived(letter, job.run, job.change, job.task)
            fives += (letter.entry, letter.group, *routed(letter, message), letter.task_id)
        self._broker.run(scripts.replay(keys, fives, job.run, job.most))

    def _to_another(self, keys: QueueKeys, target: QueueKeys, page: list[DeadLetter]) -> None:
        """Two steps, since queues may live on different servers: a mark in the target makes the first happen once."""
        job = self._job
        quads: list[Arg] = []
        triples: list[Arg] = []
        for letter in page:
            level, message = routed(letter, revived(letter, job.run, job.change, job.task))
            quads += (identity(letter), level, "", message)
            triples += (letter.entry, letter.group, letter.task_id)
        self._broker.execute("SADD", self._keys.queues, target.queue)
        self._broker.run(scripts.relay(target, quads))
        if failpoints.ARMED:
            failpoints.hit("replay.sent")
        self._broker.run(scripts.discard(keys, triples, job.run, with_results=True))


def identity(letter: DeadLetter) -> str:
    """What a dead letter is known by when it moves between queues or servers."""
    return f"dead:{letter.queue}:{letter.entry}"
