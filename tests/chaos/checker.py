"""The checker: is this history one that the guarantees allow? Pure functions over one task's story.

A story is what clients asked and heard, what task bodies did, what Redis committed (from its append-only file) and
what it holds at the end. Every function of :data:`CHECKS` looks at one story and returns what is wrong with it.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise
from typing import NamedTuple

from .commits import Commit, CommitLog, Dead
from .history import NOBODY, TICKS, Expect, Fault, Kind, Record, by_task

FINAL = frozenset("SFVX")
"""State letters after which nothing more may be committed."""
_SECOND = 1_000_000_000
_DEATHS = frozenset({"kill worker", "kill child", "term worker", "died"})
_OUTAGES = frozenset({"redis pause", "redis kill", "proxy stall", "proxy refuse", "proxy delay", "stall"})
MAX_CRASHES = 3
_CLOCK = 1_500_000
"""Nanoseconds: due times are whole milliseconds of Redis's clock."""


class Verdict(IntEnum):
    """The answer; also the exit code."""

    VALID = 0
    INVALID = 1
    UNKNOWN = 2


class Run(NamedTuple):
    """One run of a task body."""

    run: int
    attempt: int
    pid: int
    owner: int
    begin: int
    end: int
    """0: it never came to its last line."""
    ok: bool
    wrong: bool
    """Whether its arguments were not those that were sent."""


@dataclass
class Story:
    """All that is known of one task number."""

    task: int
    invoked: Record | None = None
    answer: Kind | None = None
    """OK, INFO, FAIL; None when the client died before it heard."""
    runs: list[Run] = field(default_factory=list)
    """By begin."""
    ids: list[str] = field(default_factory=list)
    """Task ids that Redis knew for it; more than one is one too many."""
    commits: list[Commit] = field(default_factory=list)
    dead: list[Dead] = field(default_factory=list)
    held: list[Commit] = field(default_factory=list)
    """What Redis held at the end, for each id."""

    @property
    def ends(self) -> list[Commit]:
        """Its final outcomes."""
        return [commit for commit in self.commits if commit.letter in FINAL]


class Causes:
    """Which second runs the faults explain.

    Args:
        faults: what was done.
        lease: seconds of a lease; a worker that was out of touch for nearly that long may have lost it.
    """

    def __init__(self, faults: Iterable[Fault], lease: float) -> None:
        self._lease = round(lease * _SECOND)
        self._deaths: dict[int, Fault] = {}
        self._pauses: defaultdict[int, list[Fault]] = defaultdict(list)
        self._outages: list[Fault] = []
        for fault in faults:
            if fault.kind in _DEATHS:
                self._deaths[fault.pid] = fault
            # renewed every third of the lease: after two thirds of silence it may be gone
            elif fault.end - fault.begin < self._lease * 0.6:
                continue
            elif fault.kind == "pause worker":
                self._pauses[fault.pid].append(fault)
            elif fault.kind in _OUTAGES:
                self._outages.append(fault)

    def killed(self, run: Run) -> bool:
        """Whether what ran it was killed before its last line."""
        return not run.end and any(pid in self._deaths for pid in (run.pid, run.owner))

    def died(self, pid: int) -> bool:
        """Whether that process was killed."""
        return pid in self._deaths

    def out_of_touch(self, owner: int, since: int, until: int) -> bool:
        """Whether a worker was out of touch for about a lease at some time between the two."""
        spells = (*self._pauses[owner], *self._outages)
        return any(spell.begin <= until and spell.end >= since for spell in spells)

    def stale(self, run: Run) -> bool:
        """Whether a run may have begun on a worker that had lost its lease and did not know it yet."""
        return self.out_of_touch(run.owner, run.begin - self._lease, run.begin)

    def explain(self, first: Run, second: Run) -> bool:
        """Whether there is a reason for *second* after *first*."""
        if second.attempt > first.attempt and first.end and not first.ok:
            return True
        for pid in {first.pid, first.owner}:
            death = self._deaths.get(pid)
            # a child may outlive its worker by a moment
            slack = 0 if pid == first.pid else _SECOND
            if death is not None and death.end + slack >= first.begin and death.begin <= second.begin:
                return True
        return self.out_of_touch(first.owner, first.begin - self._lease, second.begin) or self.stale(second)


Check = Callable[[Story, Causes], Iterator[str]]


def lost(story: Story, causes: Causes) -> Iterator[str]:
    """Accepted, or written to Redis, but with no final outcome; or the outcome is gone."""
    accepted = story.answer is Kind.OK
    if (accepted or story.ids) and not story.ends:
        yield "accepted, and never ended" if accepted else "written to Redis, and never ended"
    elif story.ends and not story.held:
        yield "its outcome was committed, and is gone"


def phantom(story: Story, causes: Causes) -> Iterator[str]:
    """Ran though nobody sent it, or with other arguments."""
    if story.runs and story.invoked is None and story.task < TICKS:
        yield "ran, and nobody sent it"
    if any(run.wrong for run in story.runs):
        yield "ran with arguments that nobody sent"


def ghost(story: Story, causes: Causes) -> Iterator[str]:
    """Ran though the client was told that it was not accepted."""
    if story.answer is Kind.FAIL and story.runs:
        yield "ran, and its sender was told that it was refused"


def twice_sent(story: Story, causes: Causes) -> Iterator[str]:
    """One ``.delay()``, more than one message."""
    if len(story.ids) > 1:
        yield f"{len(story.ids)} messages of one call"


def unexplained(story: Story, causes: Causes) -> Iterator[str]:
    """A run after another one without a death, a lost lease or a retry between them."""
    for first, second in pairwise(story.runs):
        if not causes.explain(first, second):
            yield f"ran again without a reason (process {first.owner}, then {second.owner})"


def second_commit(story: Story, causes: Causes) -> Iterator[str]:
    """More than one final outcome, or more than one dead letter."""
    if len(story.ends) > 1:
        yield f"{len(story.ends)} final outcomes: {''.join(end.letter for end in story.ends)}"
    if len(story.dead) > 1:
        yield f"{len(story.dead)} dead letters"


def stale_commit(story: Story, causes: Causes) -> Iterator[str]:
    """Committed by a worker after another one had taken the message over."""
    begun = {run.run: run for run in story.runs}
    for end in story.ends:
        if end.letter != "S":
            continue
        mine = begun.get(end.run)
        if mine is None or not mine.end or not mine.ok:
            yield "the committed result is of no run that ended well"
        elif any(run.begin > mine.begin and not causes.stale(run) for run in story.runs):
            yield f"process {mine.owner} committed after another had taken over"


def order(story: Story, causes: Causes) -> Iterator[str]:
    """States go forward only: nothing after a final one, attempts never back."""
    letters = [commit.letter for commit in story.commits]
    if any(before in FINAL and after not in FINAL for before, after in pairwise(letters)):
        yield f"states went back: {''.join(letters)}"
    attempts = [commit.attempt for commit in story.commits if commit.letter in "RSF"]
    if any(after < before for before, after in pairwise(attempts)):
        yield f"attempts went back: {attempts}"
    if story.ends and story.held and story.held[0] != story.commits[-1]:
        yield f"Redis holds {story.held[0]}, the last commit was {story.commits[-1]}"


def unexpected(story: Story, causes: Causes) -> Iterator[str]:
    """It ended otherwise than its task does; or a dead letter and its state disagree."""
    if not story.ends:
        return
    letter = story.ends[-1].letter
    expect = Expect(story.invoked.flag) if story.invoked else Expect.SUCCESS
    unlucky = any(dead.reason == "crashed" for dead in story.dead) and _suspicions(story, causes) >= MAX_CRASHES
    if letter != ("S" if expect is Expect.SUCCESS else "F") and not unlucky:
        why = f" ({story.dead[-1].reason})" if story.dead else ""
        yield f"ended {letter}{why}, expected {expect.name}"
    if (letter == "F") != bool(story.dead):
        yield "FAILURE without a dead letter" if letter == "F" else "a dead letter of a message that did not fail"


def innocent(story: Story, causes: Causes) -> Iterator[str]:
    """Given up because of crashes, though it was not running in that many of them."""
    if story.invoked and story.invoked.flag == Expect.POISON:
        return
    for letter in story.dead:
        crashes = _suspicions(story, causes)
        if letter.reason == "crashed" and crashes < MAX_CRASHES:
            yield f"dead lettered for {letter.crashes} crashes, but ran in {crashes}"


def _suspicions(story: Story, causes: Causes) -> int:
    """How often it was running when its worker fell silent: nobody can tell a pause from a crash."""
    silent = [causes.out_of_touch(run.owner, run.begin, run.end or run.begin) for run in story.runs]
    found = sum(gone or not run.end for gone, run in zip(silent, story.runs, strict=True))
    # a worker may also be paused between its note that the message runs and the message's first line
    return found + any(silent)


def limits(story: Story, causes: Causes) -> Iterator[str]:
    """More attempts than the policy allows, or more crashes than ``max_crashes``."""
    most = story.invoked.attempt if story.invoked else 1
    if any(run.attempt > most for run in story.runs):
        yield f"attempt {max(run.attempt for run in story.runs)} of {most}"
    # when a whole worker dies, its pool's children die with it, and nobody can know that one of them came first
    known = sum(not (run.pid != run.owner and causes.died(run.owner)) for run in story.runs)
    if story.invoked and story.invoked.flag == Expect.POISON and known > MAX_CRASHES:
        yield f"killed {known} processes, {MAX_CRASHES} are allowed"


def early(story: Story, causes: Causes) -> Iterator[str]:
    """Began before its time."""
    due = story.invoked.run if story.invoked else 0
    if due and story.runs and story.runs[0].begin < due - _CLOCK:
        yield f"began {(due - story.runs[0].begin) / _SECOND:.3f} s early"


CHECKS: dict[str, Check] = {
    "lost": lost,
    "phantom": phantom,
    "ghost": ghost,
    "twice sent": twice_sent,
    "unexplained run": unexplained,
    "second commit": second_commit,
    "stale commit": stale_commit,
    "order of states": order,
    "unexpected end": unexpected,
    "innocent dead lettered": innocent,
    "over the limit": limits,
    "too early": early,
}
"""Every check of one task. Those of the whole: ``fire time``, ``left behind``, ``stuck``."""


def missed_fire_times(tasks: Iterable[int], every_ms: int) -> Iterator[str]:
    """Gaps between the fire times that became messages. (One that came twice is a second commit.)"""
    ticks = sorted(task - TICKS for task in tasks if TICKS <= task < NOBODY)
    for before, after in pairwise(ticks):
        if after - before != every_ms:
            yield f"{after - before} ms between two fire times, not {every_ms}"


@dataclass
class Facts:
    """All that a run left, ready to be judged."""

    packed: Sequence[bytes]
    """History, sorted."""
    faults: Sequence[Fault]
    log: CommitLog
    held: Mapping[str, Commit]
    """What Redis held at the end: task id -> outcome."""
    left_behind: Sequence[str] = ()
    stuck: str = ""
    """Why the queues did not run dry in time; empty when they did."""
    lease: float = 15.0
    tick_ms: int = 0
    number_of: Callable[[str, str, int], int] = lambda name, task_id, first: first
    """The task number of a message, from its task name, id and first argument."""


@dataclass
class Judgement:
    """What the checker found."""

    verdict: Verdict
    violations: dict[str, list[str]]
    """Check -> one line for each violation."""
    counts: Counter[str]

    @property
    def text(self) -> str:
        """The violations, a few of each kind."""
        return "\n".join(
            f"{check}: {len(found)}\n  " + "\n  ".join(found[:5]) for check, found in self.violations.items()
        )


def stories(facts: Facts) -> Iterator[Story]:
    """One story for every task number that anybody knows of."""
    ids: defaultdict[int, list[str]] = defaultdict(list)
    for task_id, (name, first) in facts.log.tasks.items():
        ids[facts.number_of(name, task_id, first)].append(task_id)
    for task, records in by_task(facts.packed):
        if task != NOBODY:
            yield _story(facts, task, records, ids.pop(task, []))
    for task, unseen in ids.items():
        yield _story(facts, task, [], unseen)


def _story(facts: Facts, task: int, records: Sequence[Record], ids: list[str]) -> Story:
    story = Story(task, ids=ids)
    ends = {record.run: record for record in records if record.kind == Kind.END}
    for record in records:
        match record.kind:
            case Kind.INVOKE:
                story.invoked = record
            case Kind.OK | Kind.INFO | Kind.FAIL:
                story.answer = Kind(record.kind)
            case Kind.BEGIN:
                end = ends.get(record.run)
                story.runs.append(
                    Run(
                        record.run,
                        record.attempt,
                        record.pid,
                        record.owner,
                        record.at,
                        end.at if end else 0,
                        bool(end and not end.flag),
                        bool(record.flag),
                    )
                )
    for task_id in ids:
        story.commits += facts.log.commits.get(task_id, ())
        story.dead += facts.log.dead.get(task_id, ())
        if task_id in facts.held:
            story.held.append(facts.held[task_id])
    return story


def judge(facts: Facts) -> Judgement:
    """Look at everything."""
    causes = Causes(facts.faults, facts.lease)
    violations: defaultdict[str, list[str]] = defaultdict(list)
    counts: Counter[str] = Counter()
    ticks: list[int] = []
    for story in stories(facts):
        _count(story, counts)
        if story.task >= TICKS:
            ticks.append(story.task)
        for name, check in CHECKS.items():
            violations[name] += (f"task {story.task}: {found}" for found in check(story, causes))
    if facts.tick_ms:
        violations["fire time"] += missed_fire_times(ticks, facts.tick_ms)
    violations["left behind"] += facts.left_behind
    if facts.stuck:
        violations["stuck"].append(facts.stuck)
    found = {name: lines for name, lines in violations.items() if lines}
    return Judgement(Verdict.INVALID if found else Verdict.VALID, found, counts)


def _count(story: Story, counts: Counter[str]) -> None:
    counts["fire times" if story.task >= TICKS else "tasks"] += 1
    counts["accepted"] += story.answer is Kind.OK
    counts["unanswered"] += story.answer is None and story.task < TICKS
    counts["indeterminate"] += story.answer is Kind.INFO
    counts["indeterminate, ran"] += story.answer is not Kind.OK and story.task < TICKS and bool(story.runs)
    counts["runs"] += len(story.runs)
    counts["runs again after a fault"] += sum(second.attempt == first.attempt for first, second in pairwise(story.runs))
    counts["retries"] += sum(second.attempt > first.attempt for first, second in pairwise(story.runs))
    for end in story.ends:
        counts[{"S": "SUCCESS", "F": "FAILURE", "V": "REVOKED", "X": "EXPIRED"}[end.letter]] += 1


class Recovery(NamedTuple):
    """How long the system was affected by one fault."""

    kind: str
    seconds: float
    tasks: int
    """Runs that it broke off."""


def recoveries(facts: Facts) -> list[Recovery]:
    """For each fault that broke off runs: until the last of them began again. For each outage: until the next end."""
    broken: defaultdict[int, list[int]] = defaultdict(list)
    ends: list[int] = []
    for story in stories(facts):
        ends += (run.end for run in story.runs if run.end)
        for first, second in pairwise(story.runs):
            if not first.end:
                for pid in {first.pid, first.owner}:
                    broken[pid].append(second.begin)
    ends.sort()
    found = []
    for fault in facts.faults:
        if fault.kind in _DEATHS:
            again = [begin for begin in broken[fault.pid] if begin >= fault.begin]
            if again:
                found.append(Recovery(fault.kind, (max(again) - fault.begin) / _SECOND, len(again)))
        elif fault.kind.startswith(("redis", "proxy", "script", "client")):
            at = bisect.bisect_right(ends, fault.end)
            if at < len(ends):
                found.append(Recovery(fault.kind, (ends[at] - fault.end) / _SECOND, 0))
    return found
