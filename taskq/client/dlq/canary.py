"""The careful replay that a schedule does: of each kind of failure one, then ten, then all.

A kind whose canary fails again stays where it is, and so does one whose canary has not ended in time. The work is done
in short steps. All that a step must know is in the run's record, so that any worker can do the next one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from taskq.broker.keys import Keys, QueueKeys
from taskq.broker.link.sync import SyncBroker
from taskq.client.dlq import query
from taskq.client.dlq.filters import Filter
from taskq.client.dlq.letter import DeadLetter
from taskq.client.dlq.replay import Job, Replayer
from taskq.client.dlq.runs import DONE, RUNNING, STOPPED, UNDECIDED, Runs, Tally, tallies

STAGES: tuple[int | None, ...] = (1, 11, None)
"""Most of one kind that are back by the end of each stage."""
STEP = 20_000
"""Most entries that one step looks at."""
POLL = 0.5
"""Seconds between looks at whether the canaries have ended."""


class Sweep:
    """One such replay in one queue.

    Args:
        broker: runs the commands.
        keys: of the namespace.
        queue: the queue's name.
        run: the id of the run.
        where: which dead letters are meant, in words.
        eligible: which are.
        rule: what *eligible* depends on, in short. What it has left aside is not looked at again under the same rule.
        timeout: seconds to wait for the canaries of a stage.
    """

    def __init__(
        self,
        broker: SyncBroker,
        keys: Keys,
        queue: str,
        run: str,
        where: str,
        eligible: Callable[[DeadLetter], bool],
        rule: str,
        timeout: float,
    ) -> None:
        self._broker = broker
        self._all_keys = keys
        self._keys = keys.queue(queue)
        self._runs = Runs(broker, self._keys)
        self._run = run
        self._where = where
        self._eligible = eligible
        self._passed = Passed(broker, self._keys, where, rule)
        self._timeout = timeout

    def begin(self) -> None:
        """Write the run down, unless there is nothing new to look at or another one is under way."""
        last = query.last_entry(self._broker.execute, self._keys)
        if last is None or self._passed.covers(last) or self._busy():
            return
        self._runs.begin(self._run, "schedule", self._where)
        self._runs.note(self._run, stage=0, last=last, at="", since="")

    def step(self) -> float | None:
        """Do the next step; seconds until the one after it, None when the run is over or was never begun.

        Raises:
            BrokerError: Redis could not be asked; the step may be repeated.
        """
        record = self._runs.fields(self._run)
        if record.get("state") != RUNNING or "last" not in record:
            return None
        stage, at = int(record["stage"]), record["at"] or None
        by_kind = tallies(record)[1]
        if record["since"]:
            waited = time.time() - int(record["since"]) / 1000
            if waited < self._timeout and any(tally.ended < tally.replayed for tally in by_kind.values()):
                return POLL
            stage, at = stage + 1, None
            self._runs.note(self._run, stage=stage, at="", since="")
        return self._replay(stage, at, record["last"], by_kind, left=record.get("left") == "1" and at is not None)

    def _replay(self, stage: int, at: str | None, last: str, by_kind: dict[str, Tally], *, left: bool) -> float | None:
        """One stage, or so much of it as one step may look at."""
        passed = self._passed.read()
        page = _Stage(stage, by_kind, self._eligible, left, aside=at in (None, passed))
        letters = query.letters(self._broker.execute, self._keys, Filter(), after=at or passed, last=last)
        job = Job(self._run, "schedule", self._where, most=STAGES[stage])
        Replayer(self._broker, self._all_keys, job).put_back(page.chosen(letters, self._kinds()))
        if page.passed is not None:
            self._passed.write(page.passed)
        if page.position is not None:
            self._runs.note(self._run, at=page.position, left=int(page.left))
            return 0.0
        if not page.left or STAGES[stage] is None:
            self._finish(page)
            return None
        self._runs.note(self._run, since=round(time.time() * 1000), at="", left=0)
        return POLL

    def _finish(self, page: _Stage) -> None:
        state = STOPPED if page.stopped else UNDECIDED if page.undecided else DONE
        self._runs.note(self._run, state=state)

    def _kinds(self) -> set[str]:
        return {group.fingerprint for group in query.groups(self._broker.execute, [self._keys])}

    def _busy(self) -> bool:
        """Whether another such run does something in this queue now; one that was killed does not count for long."""
        recently = (time.time() - 2 * self._timeout) * 1000
        for run in self._runs.latest(5):
            record = self._runs.fields(run)
            alive = record.get("state") == RUNNING and int(record.get("seen", "0")) > recently
            if run != self._run and alive and record.get("actor") == "schedule" and record.get("where") == self._where:
                return True
        return False


class Passed:
    """How far a queue was looked through without finding any that such a replay takes: it begins behind that.

    Kept beside the groups, and so gone with the last dead letter. Ids only rise, so nothing comes in before it.

    Args:
        broker: runs the commands.
        keys: of the queue.
        where: which replay.
        rule: what its choice depends on; under another one nothing was passed.
    """

    def __init__(self, broker: SyncBroker, keys: QueueKeys, where: str, rule: str) -> None:
        self._execute = broker.execute
        self._keys = keys
        self._field = f"s:{where}"
        self._rule = rule

    def read(self) -> str | None:
        """The id of the last one passed; None for none."""
        rule, _, entry = (self._execute("HGET", self._keys.dead_groups, self._field) or b"").decode().partition(" ")
        return entry if rule == self._rule else None

    def covers(self, entry: str) -> bool:
        """Whether *entry* was passed; it may be older than the last that was, which is gone by now."""
        passed = self.read()
        return passed is not None and _order(entry) <= _order(passed)

    def write(self, entry: str) -> None:
        """All up to *entry* are passed."""
        self._execute("HSET", self._keys.dead_groups, self._field, f"{self._rule} {entry}")


def _order(entry: str) -> tuple[int, ...]:
    return tuple(map(int, entry.split("-")))


class _Stage:
    """Which dead letters go back in one stage, and why others stay."""

    def __init__(
        self, stage: int, by_kind: dict[str, Tally], eligible: Callable[[DeadLetter], bool], left: bool, *, aside: bool
    ) -> None:
        self._stage = stage
        self._most = STAGES[stage]
        self._by_kind = by_kind
        self._eligible = eligible
        self._sent: Counter[str] = Counter({kind: tally.replayed for kind, tally in by_kind.items()})
        self.left = left
        """Whether any stays that a later stage could take."""
        self.stopped = any(tally.again for tally in by_kind.values())
        self.undecided = any(tally.again == 0 and self._waits(tally) for tally in by_kind.values())
        self.position: str | None = None
        """Where the next step goes on; None when this one has come to the end."""
        self._aside = aside
        self.passed: str | None = None
        """Up to here none of them is eligible; None when that is not known of more than before."""

    def chosen(self, letters: Iterator[DeadLetter], kinds: set[str]) -> Iterator[DeadLetter]:
        """Those of *letters* that go back now; ends early when no more of any of *kinds* can."""
        open_kinds = {kind for kind in kinds if self._room(kind)}
        for number, letter in enumerate(letters, 1):
            if not open_kinds:
                self.left = self.left or not all(map(self._closed, kinds))
                return
            kind = letter.group
            eligible = self._eligible(letter)
            self._aside = self._aside and not eligible
            if self._aside:
                self.passed = letter.entry
            if eligible and not self._closed(kind):
                if self._room(kind):
                    self._sent[kind] += 1
                    if not self._room(kind):
                        open_kinds.discard(kind)
                    yield letter
                else:
                    self.left = True
            if number >= STEP:
                self.position = letter.entry
                return

    def _room(self, kind: str) -> bool:
        return not self._closed(kind) and (self._most is None or self._sent[kind] < self._most)

    def _closed(self, kind: str) -> bool:
        """Whether none of a kind goes back any more: a canary failed again, has not ended, or never went."""
        tally = self._by_kind.get(kind)
        if tally is None:
            return self._stage > 0
        return tally.again > 0 or self._waits(tally)

    def _waits(self, tally: Tally) -> bool:
        """Whether a canary of the stages before this one has not ended."""
        before = STAGES[self._stage - 1] if self._stage else 0
        return tally.ended < (tally.replayed if before is None else min(tally.replayed, before))
