"""Every check of the checker, on stories made by hand: one that it must object to, and the nearest that it must not."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskq.client.dlq import Evidence, pack_evidence
from taskq.values.message import WIRE_VERSION, Message, TaskState, encode
from taskq.values.outcome import pack_error, pack_success

from . import checker
from .checker import CHECKS, Causes, Facts, Run, Story, Verdict, judge
from .commits import Commit, CommitLog, Dead
from .history import TICKS, Expect, Fault, FaultLog, Kind, Record, Writer, pack, read_faults, read_sorted, unpack

SECOND = 1_000_000_000
LEASE = 2.0
CALM = Causes([], LEASE)


def at(seconds: float) -> int:
    """Nanoseconds, some time after zero."""
    return round((100 + seconds) * SECOND)


def invoked(expect: Expect = Expect.SUCCESS, attempts: int = 1, due: float | None = None) -> Record:
    return Record(7, at(0), Kind.INVOKE, expect, attempts, run=0 if due is None else at(due))


def a_run(number: int, begin: float, end: float | None = None, **changes: object) -> Run:
    """A run that ends well 0.1 s after its begin, in process 1."""
    made = Run(number, 1, 1, 1, at(begin), at(begin + 0.1 if end is None else end), True, False)
    return made._replace(**changes)


def a_story(*runs: Run, **changes: object) -> Story:
    """A task that was accepted, ran once, succeeded, and is held as it was committed."""
    runs = runs or (a_run(11, 1),)
    commit = Commit("S", runs[-1].run, runs[-1].attempt)
    fields: dict[str, object] = {
        "invoked": invoked(),
        "answer": Kind.OK,
        "runs": list(runs),
        "ids": ["a"],
        "commits": [commit],
        "held": [commit],
    }
    return Story(7, **(fields | changes))  # type: ignore[arg-type]


def objections(story: Story, causes: Causes = CALM) -> set[str]:
    return {name for name, check in CHECKS.items() if list(check(story, causes))}


def broken_off(number: int, begin: float, **changes: object) -> Run:
    return a_run(number, begin, **changes)._replace(end=0, ok=False)


FAILED = [Commit("F", 0, 1)]
TWICE = (a_run(11, 1), a_run(12, 3, pid=2, owner=2))


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        pytest.param(a_story(), set(), id="a good one"),
        pytest.param(a_story(commits=[], held=[]), {"lost"}, id="accepted, no outcome"),
        pytest.param(a_story(commits=[], held=[], ids=[], runs=[]), {"lost"}, id="accepted, no trace"),
        pytest.param(a_story(commits=[], held=[], answer=None), {"lost"}, id="written, no outcome"),
        pytest.param(a_story(held=[]), {"lost"}, id="outcome gone"),
        pytest.param(
            a_story(answer=Kind.INFO, commits=[], held=[], ids=[], runs=[]), set(), id="indeterminate and absent"
        ),
        pytest.param(a_story(answer=Kind.INFO), set(), id="indeterminate and done"),
        pytest.param(a_story(invoked=None, answer=None), {"phantom"}, id="nobody sent it"),
        pytest.param(a_story(a_run(11, 1, wrong=True)), {"phantom"}, id="wrong arguments"),
        pytest.param(a_story(answer=Kind.FAIL), {"ghost"}, id="refused and run"),
        pytest.param(a_story(ids=["a", "b"]), {"twice sent"}, id="two messages of one call"),
        pytest.param(a_story(*TWICE), {"unexplained run"}, id="ran twice"),
        pytest.param(
            a_story(*TWICE, commits=[Commit("S", 11, 1), Commit("S", 12, 1)]),
            {"unexplained run", "second commit", "stale commit"},
            id="committed twice",
        ),
        pytest.param(
            a_story(*TWICE, commits=[Commit("S", 11, 1)], held=[Commit("S", 11, 1)]),
            {"unexplained run", "stale commit"},
            id="the first of two committed",
        ),
        pytest.param(
            a_story(commits=[Commit("S", 99, 1)], held=[Commit("S", 99, 1)]), {"stale commit"}, id="of no run"
        ),
        pytest.param(a_story(broken_off(11, 1)), {"stale commit"}, id="of a run that did not end"),
        pytest.param(
            a_story(commits=[Commit("S", 11, 1), Commit("R", 0, 1)]), {"order of states"}, id="back from a final state"
        ),
        pytest.param(a_story(held=[Commit("F", 0, 1)]), {"order of states"}, id="held is not what was committed"),
        pytest.param(
            a_story(commits=FAILED, held=FAILED, dead=[Dead("failed", 0)]), {"unexpected end"}, id="failed, should not"
        ),
        pytest.param(
            a_story(commits=FAILED, held=FAILED, dead=[Dead("failed", 0)], invoked=invoked(Expect.FAILURE)),
            set(),
            id="failed as it should",
        ),
        pytest.param(
            a_story(commits=FAILED, held=FAILED, invoked=invoked(Expect.FAILURE)),
            {"unexpected end"},
            id="no dead letter",
        ),
        pytest.param(
            a_story(commits=FAILED, held=FAILED, dead=[Dead("failed", 0)] * 2, invoked=invoked(Expect.FAILURE)),
            {"second commit"},
            id="two dead letters",
        ),
        pytest.param(
            a_story(commits=FAILED, held=FAILED, dead=[Dead("crashed", 3)]),
            {"unexpected end", "innocent dead lettered"},
            id="charged for others",
        ),
        pytest.param(
            a_story(
                a_run(11, 1, ok=False),
                a_run(12, 2, attempt=2, ok=False),
                a_run(13, 3, attempt=3),
                invoked=invoked(attempts=2),
            ),
            {"over the limit"},
            id="three attempts of two",
        ),
        pytest.param(a_story(invoked=invoked(due=1.5)), {"too early"}, id="before its time"),
        pytest.param(a_story(invoked=invoked(due=0.9)), set(), id="after its time"),
    ],
)
def test_one_story(story: Story, expected: set[str]) -> None:
    assert objections(story) == expected


KILLED = Fault("kill worker", at(1.05), at(1.06), 1)


@pytest.mark.parametrize(
    ("faults", "explained"),
    [
        pytest.param([], False, id="nothing happened"),
        pytest.param([KILLED], True, id="its worker was killed"),
        pytest.param([KILLED._replace(pid=3)], False, id="another worker was killed"),
        pytest.param([KILLED._replace(begin=at(0.5), end=at(0.51))], False, id="killed before it began"),
        pytest.param([KILLED._replace(begin=at(4), end=at(4.1))], False, id="killed after the second run"),
        pytest.param([Fault("pause worker", at(1.05), at(4), 1)], True, id="paused for longer than the lease"),
        pytest.param([Fault("pause worker", at(1.05), at(1.6), 1)], False, id="paused for a moment"),
        pytest.param([Fault("redis pause", at(1.05), at(2.9))], True, id="Redis out of reach"),
        pytest.param([Fault("script flush", at(1.05), at(2.9))], False, id="a fault that costs no lease"),
        pytest.param([Fault("pause worker", at(0.5), at(2.95), 2)], True, id="the second run began as a zombie"),
    ],
)
def test_what_explains_a_second_run(faults: list[Fault], explained: bool) -> None:
    first, second = TWICE
    assert Causes(faults, LEASE).explain(first, second) is explained


def test_a_retry_explains_the_next_attempt() -> None:
    first, second = a_run(11, 1, ok=False), a_run(12, 2, attempt=2)
    assert CALM.explain(first, second)
    assert not CALM.explain(first._replace(ok=True), second)
    assert not CALM.explain(first, second._replace(attempt=1))


def test_a_zombie_that_began_late_makes_no_stale_commit() -> None:
    rightful, zombie = a_run(11, 1), broken_off(12, 3, pid=2, owner=2)
    commits = [Commit("S", 11, 1)]
    story = a_story(rightful, zombie, commits=commits, held=commits)
    assert objections(story, Causes([Fault("pause worker", at(0.5), at(2.95), 2)], LEASE)) == set()


def test_a_message_may_be_given_up_that_ran_in_three_silent_workers() -> None:
    runs = [a_run(number, 3 * number, 3 * number + 2.5) for number in range(3)]
    dead = {"commits": FAILED, "held": FAILED, "dead": [Dead("crashed", 3)]}
    pauses = [Fault("pause worker", run.begin + 1, run.end - 1, 1) for run in runs]
    assert objections(a_story(*runs, **dead), Causes(pauses, LEASE)) == set()
    assert objections(a_story(*runs, **dead), Causes(pauses[:1], LEASE)) >= {"innocent dead lettered", "unexpected end"}


@pytest.mark.parametrize(("times", "gaps"), [([0, 500, 1000], 0), ([0, 1000], 1), ([], 0)])
def test_fire_times(times: list[int], gaps: int) -> None:
    assert len(list(checker.missed_fire_times([TICKS + time for time in times], 500))) == gaps


def test_recoveries_are_measured_from_the_kill_to_the_next_begin() -> None:
    facts = _facts([_run_records(11, 1, end=False), _run_records(12, 3)], faults=[KILLED])
    assert [(found.kind, round(found.seconds, 2), found.tasks) for found in checker.recoveries(facts)] == [
        ("kill worker", 1.95, 1)
    ]


def test_judge_puts_it_all_together() -> None:
    good = _facts([_run_records(11, 1)])
    assert judge(good).verdict is Verdict.VALID
    assert judge(good).counts["SUCCESS"] == 1
    good.stuck = "not settled"
    good.left_behind = ["a key"]
    assert set(judge(good).violations) == {"stuck", "left behind"}
    assert judge(_facts([_run_records(11, 1), _run_records(12, 3)])).verdict is Verdict.INVALID


def test_history_survives_as_it_was_written(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "one.hist")
    writer.write(Kind.INVOKE, 9, flag=1, attempt=2)
    writer.write(Kind.OK, 8)
    writer.close()
    with (tmp_path / "one.hist").open("ab") as torn:
        torn.write(b"half a rec")
    assert [(record.task, record.kind) for record in map(unpack, read_sorted(tmp_path))] == [
        (8, Kind.OK),
        (9, Kind.INVOKE),
    ]
    log = FaultLog(tmp_path / "faults.jsonl")
    log.add("kill worker", 5, pid=6, note="why")
    log.close()
    assert read_faults(tmp_path / "faults.jsonl") == log.faults


def test_the_commit_log_reads_what_redis_wrote() -> None:
    log = CommitLog()
    data = encode(Message(WIRE_VERSION, "mine", "work", [7, 1], {}))
    evidence = pack_evidence(Evidence(reason="failed", crashes=1))
    for command in (
        [b"SELECT", b"0"],
        [b"XADD", b"chaos:{q}:stream:5", b"1-1", b"m", data],
        [b"ZADD", b"chaos:{q}:delayed", b"5", b"5" + data],
        [b"SET", b"chaos:{q}:result:mine", pack_error(TaskState.RETRY, "E", "", "", 1), b"PXAT", b"9"],
        [b"SET", b"chaos:{q}:result:mine", pack_success(42, 2, "it"), b"PXAT", b"9"],
        [b"SET", b"chaos:{q}:producer:x", b"1"],
        [b"XADD", b"chaos:{q}:dead", b"1-1", b"m", data, b"i", evidence],
        [b"XADD", b"other:{q}:stream:5", b"1-1", b"m", b"garbage"],
    ):
        log.take("chaos", command)
    assert log.tasks == {"mine": ("work", 7)}
    assert log.commits == {"mine": [Commit("R", 0, 1), Commit("S", 42, 2)]}
    assert log.dead == {"mine": [Dead("failed", 1)]}


def _run_records(run: int, begin: float, *, end: bool = True) -> list[Record]:
    begun = Record(7, at(begin), Kind.BEGIN, 0, 1, 1, 1, run)
    return [begun, begun._replace(at=at(begin + 0.1), kind=Kind.END)] if end else [begun]


def _facts(runs: list[list[Record]], faults: list[Fault] | None = None) -> Facts:
    records = [invoked(), Record(7, at(0.1), Kind.OK), *(record for run in runs for record in run)]
    last = Commit("S", runs[-1][0].run, 1)
    log = CommitLog({"a": ("work", 7)}, {"a": [last]})
    return Facts(sorted(map(pack, records)), faults or [], log, {"a": last}, lease=LEASE)
