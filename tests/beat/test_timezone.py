"""The setting ``timezone``: every place where a schedule can be defined, and every place that shows it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner

from taskq import PeriodicEntry, TaskQ, cron, crontab, every
from taskq.beat.beat import Beat
from taskq.cli.schedule import schedule as command
from taskq.errors import ConfigError
from taskq.values.schedule.zones import zone_of

SEOUL, LINE = "Asia/Seoul", "0 2 * * *"
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
AT_TWO_IN_SEOUL = datetime(2024, 5, 1, 17, tzinfo=UTC)
Make = Callable[..., TaskQ]


def job() -> None: ...


def by_decorator(app: TaskQ) -> None:
    app.periodic(cron(LINE), name="nightly")(app.task(name="job")(job))


def by_decorator_of_a_function(app: TaskQ) -> None:
    app.periodic(crontab(hour=2, minute=0), name="nightly")(job)


def by_entry(app: TaskQ) -> None:
    app.add_periodic(PeriodicEntry("nightly", "job", cron(LINE)))


def by_entry_in_celerys_form(app: TaskQ) -> None:
    app.add_periodic(PeriodicEntry("nightly", "job", crontab(hour=2, minute=0)))


def by_batch_job(app: TaskQ) -> None:
    app.topic("orders")

    @app.batch_job(cron(LINE), source="orders", name="nightly")
    def settle(window: Any) -> None: ...


def at_runtime(app: TaskQ) -> None:
    app.schedules.add("nightly", cron(LINE), "job")


def at_runtime_in_celerys_form(app: TaskQ) -> None:
    app.schedules.add("nightly", crontab(hour=2, minute=0), "job")


def before_it_is_reconfigured(app: TaskQ) -> None:
    app.reconfigure(timezone="Europe/Paris")
    app.add_periodic(PeriodicEntry("nightly", "job", cron(LINE)))
    app.reconfigure(timezone=SEOUL)


PLACES = (
    by_decorator,
    by_decorator_of_a_function,
    by_entry,
    by_entry_in_celerys_form,
    by_batch_job,
    at_runtime,
    at_runtime_in_celerys_form,
    before_it_is_reconfigured,
)


@pytest.mark.parametrize("define", PLACES)
def test_it_is_the_zone_of_cron_lines_that_name_none(define: Callable[[TaskQ], None], make_app: Make) -> None:
    app = make_app(timezone=SEOUL)
    define(app)
    assert app.schedules.next("nightly", 1, after=NOON) == [AT_TWO_IN_SEOUL]
    found = app.schedules.get("nightly")
    assert found.zone == SEOUL
    assert found.spec.endswith(SEOUL)


@pytest.mark.parametrize("when", [LINE, cron(LINE), crontab(hour=2, minute=0)], ids=["text", "cron", "crontab"])
def test_it_is_the_zone_of_beat_schedule(when: Any, make_app: Make) -> None:
    app = make_app(timezone=SEOUL, beat_schedule={"nightly": {"task": "job", "schedule": when}})
    app.load()
    assert app.schedules.next("nightly", 1, after=NOON) == [AT_TWO_IN_SEOUL]


def test_it_is_the_zone_of_replays_by_schedule(make_app: Make) -> None:
    app = make_app(timezone=SEOUL, dlq_replay_schedule=LINE)
    app.task(name="own", dlq_replay=LINE)(job)
    assert len(app.periodic_entries) == 2
    for name in app.periodic_entries:
        assert app.schedules.next(name, 1, after=NOON) == [AT_TWO_IN_SEOUL]


def test_a_zone_that_is_named_stands(make_app: Make) -> None:
    app = make_app(timezone=SEOUL)
    for name, tz in (("text", "UTC"), ("object", UTC)):
        app.add_periodic(PeriodicEntry(name, "job", cron(LINE, tz=tz)))
        assert app.schedules.next(name, 1, after=NOON) == [datetime(2024, 5, 2, 2, tzinfo=UTC)]
        assert app.schedules.get(name).zone == "UTC"


def test_a_beat_fires_in_it_and_apps_with_another_setting_show_it(make_app: Make, redis_client: Any) -> None:
    app = make_app(timezone=SEOUL)
    by_entry(app)
    stream, beat = app.keys.queue("default").stream(5), Beat(app)
    beat.tick(NOON)
    assert redis_client.xlen(stream) == 0
    beat.tick(AT_TWO_IN_SEOUL)
    assert redis_client.xlen(stream) == 1
    assert make_app().schedules.get("nightly").zone == SEOUL
    redis_client.delete(stream)


def test_a_backfill_goes_by_it(make_app: Make) -> None:
    app = make_app(timezone=SEOUL)
    by_entry(app)
    (result,) = app.schedules.backfill("nightly", NOON, datetime(2024, 5, 2, 12, tzinfo=UTC))
    assert result.id == "nightly@2024-05-01T17:00:00Z:backfill"
    app.purge("default")


@pytest.mark.parametrize(("zone", "begin"), [(SEOUL, "2024-04-29T15:00+00:00"), ("UTC", "2024-04-30T00:00+00:00")])
@pytest.mark.parametrize("when", [cron(LINE), every("1d")], ids=["cron", "every"])
def test_the_previous_day_of_a_batch_job_is_one_of_it(zone: str, begin: str, when: Any, make_app: Make) -> None:
    app = make_app(timezone=zone)
    app.topic("orders")

    @app.batch_job(when, source="orders", window="previous_day", name="daily")
    def settle(window: Any) -> None: ...

    first, _ = app.batch_jobs["daily"].bounds(NOON, zone_of(app.config.timezone))
    assert first == datetime.fromisoformat(begin).timestamp() * 1000


@pytest.fixture
def run(redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run ``taskq schedule`` with the setting in the environment alone; gives what it prints as JSON."""
    monkeypatch.setenv("TASKQ_TIMEZONE", SEOUL)

    def invoke(*arguments: str) -> Any:
        address = ("--broker-url", redis_url, "--namespace", namespace, "--json")
        answer = CliRunner().invoke(command, [arguments[0], *address, *arguments[1:]])
        assert answer.exit_code == 0, answer.output
        return json.loads(answer.stdout)

    return invoke


def test_the_commands_go_by_it(run: Callable[..., Any], app: TaskQ) -> None:
    added = run("add", "nightly", "--cron", LINE, "--task", "job")
    assert (added["zone"], added["spec"]) == (SEOUL, f"cron {LINE} {SEOUL}")
    (row,) = run("next", "nightly", "-n", "1")
    assert row["local"].endswith("T02:00:00+09:00")
    sent = run("backfill", "nightly", "2024-05-01T02:00", "2024-05-01T02:00")
    assert sent["task_ids"] == ["nightly@2024-04-30T17:00:00Z:backfill"]
    app.purge("default")
    once = run("add", "once", "--at", "2199-12-24T18:00", "--task", "job", "--start", "2024-01-01")
    assert once["next_fire"] == "2199-12-24T09:00:00.000+00:00"
    run("add", "often", "--every", "1d", "--task", "job")
    (row,) = run("next", "often", "-n", "1")
    assert row["local"].endswith("+09:00")


WITHOUT_DATA = """
import sys, zoneinfo
zoneinfo.reset_tzpath(to=[])
sys.modules["tzdata"] = None
from taskq import PeriodicEntry, TaskQ, cron
from taskq.errors import TaskqError
app = TaskQ("shop")
for tz in (None, "UTC", "Etc/UTC"):
    app.add_periodic(PeriodicEntry(f"nightly-{tz}", "shop.job", cron("0 2 * * *", tz=tz)))
print(len(app.periodic_entries))
for make in (lambda: cron("0 2 * * *", tz="Asia/Seoul"), lambda: TaskQ("shop", timezone="Asia/Seoul")):
    try:
        make()
    except TaskqError as error:
        print(error)
"""


def test_without_time_zone_data_utc_works_and_another_zone_says_what_is_missing() -> None:
    """As in an image without the system's tzdata and without the package of that name."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_DATA], capture_output=True, text=True, check=True)
    count, by_line, by_setting = done.stdout.splitlines()
    assert count == "3"
    for text in (by_line, by_setting):
        assert "Asia/Seoul" in text
        assert "pip install tzdata" in text


@pytest.mark.parametrize("zone", ["Asia/Soul", "Europe", "../etc/passwd", "+09:00"])
def test_a_zone_that_does_not_exist_is_refused(zone: str, make_app: Make) -> None:
    with pytest.raises(ConfigError, match="timezone"):
        make_app(timezone=zone)
