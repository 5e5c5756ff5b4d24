"""Every file and folder in ``examples/`` runs, on a Redis of its own or a named one, and prints what it promises."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from support.process import ROOT, Proc
from support.programs import missing, server_binaries

from taskq import cron

EXAMPLES = ROOT / "examples"
EXPECTED = {
    "quickstart": ["add: 5", "greet: hello world", "a thousand more: 999000"],
    "retries_and_dlq": [
        "flaky: attempt 3 worked",
        "read: FileNotFoundError",
        "dead letter: retries_and_dlq.read after 2 attempts",
        "replayed: 1",
        "read: here it is",
    ],
    "exactly_once": [
        "payments: [10]",
        "balance: [30]",
        "published: 1 and then 0",
        "same receipt: True",
        "address: new street stored",
        "address: old street ignored",
        "notes: ['added 30']",
    ],
    "bulk_insert": [
        "outcomes: {'stored'}",
        "nameless: TaskFailedError",
        "rows: 1000",
        "3001 calls in few invocations: True, of",
    ],
    "coupons": ["coupons sent: 150, to 150 customers", "the pace was kept: True"],
    "orders": [
        "mails: 300, out of turn: 0",
        "settled: 300 orders, 75000 cents",
        "reserved: 300, mended by the job: True",
        "group stock: lag 0, dropped unread 0",
    ],
    "payments_dlq": [
        "dead: 190 x BankUnreachableError",
        "dead: 10 x UnknownAccountError",
        "booked: 190 of 200, each once: True, cents: 19000",
        "left: 10, each replay stops at their canary",
    ],
    "scheduled": ["tick: scheduled.tick@", "remind: tea is ready, after "],
}


def test_every_example_is_run() -> None:
    folders = {file.parent.name for file in EXAMPLES.glob("*/__main__.py")}
    assert {file.stem for file in EXAMPLES.glob("*.py")} | folders == {*EXPECTED, "surroundings"}
    assert all((EXAMPLES / name / "README.md").exists() for name in folders)


@pytest.mark.parametrize("name", ["coupons", "orders", "payments_dlq"])
def test_what_is_nightly_is_due_within_seconds_in_the_examples_own_run_on_any_day(name: str) -> None:
    source = (EXAMPLES / name / "__main__.py").read_text()
    (line,) = re.findall(r'setdefault\("\w+(?:CRON|REPLAY)", "([^"]+)"', source)
    schedule = cron(line, tz="Europe/Paris")
    for day in range(366):
        now = datetime(2028, 1, 1, 0, 59, 57, tzinfo=UTC) + timedelta(days=day)
        due = schedule.next_after(now)
        assert due is not None
        assert due - now <= timedelta(seconds=3)


@pytest.mark.parametrize("name", EXPECTED)
def test_example(name: str, spawn: Callable[..., Proc]) -> None:
    if not server_binaries():
        missing("no Redis server found")
    path = EXAMPLES / name
    assert not missing_from(spawn(str(path if path.is_dir() else path.with_suffix(".py"))), name)


def test_quickstart_on_a_redis_of_the_users(spawn: Callable[..., Proc], redis_url: str, namespace: str) -> None:
    env = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace}
    assert not missing_from(spawn(str(EXAMPLES / "quickstart.py"), env=env), "quickstart")


def missing_from(example: Proc, name: str) -> str:
    """What a run of the example should have told and did not, with all that it told; empty when it is all there."""
    status = example.wait(100)
    absent = [text for text in EXPECTED[name] if text not in example.output()]
    return f"status {status}, {absent} not in:\n{example.output()}" if status or absent else ""
