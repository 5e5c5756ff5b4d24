"""Schedules that were taken out of the code, and what a beat reads of those that changed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry

from taskq import PeriodicEntry, TaskQ, every
from taskq.beat.beat import Beat
from taskq.beat.roster import RETIRED_FOR
from taskq.cli.schedule import schedule as command
from taskq.observe.doctor import examine
from taskq.observe.metrics.beat import BeatMetrics
from taskq.observe.metrics.catalogue import MOST_SCHEDULES
from taskq.observe.metrics.exporter import Exporter

Make = Callable[..., TaskQ]
Release = Callable[..., Beat]


@pytest.fixture
def release(redis_url: str, namespace: str) -> Release:
    """A beat of one release of the app ``shop`` (or another), with schedules of these names in its code."""

    def released(*names: str, app: str = "shop") -> Beat:
        made = TaskQ(app, redis_url, namespace=namespace)
        for name in names:
            made.add_periodic(PeriodicEntry(name, "shop.job", every(10)))
        return Beat(made)

    return released


@pytest.fixture
def now(app: TaskQ) -> datetime:
    return datetime.fromtimestamp(int(app.sync_broker.execute("TIME")[0]), UTC)


def aged(app: TaskQ, name: str, seconds: float) -> None:
    """Have *seconds* gone by since a beat last had the schedule in its code, and since it last fired."""
    then = int((time.time() - seconds) * 1000)
    app.sync_broker.execute("HSET", app.keys.schedules.confirmed, name, then)
    app.sync_broker.execute("HSET", app.keys.queue("default").schedule(name), "fired", then)


def stop(beat: Beat) -> None:
    beat._leave()
    beat._app.close()


def replaced(old: Beat, new: Beat, app: TaskQ, now: datetime, seconds: float = 120) -> None:
    """A deployment: the old beat fires, is stopped, and the new one looks some time later."""
    old.tick(now)
    stop(old)
    aged(app, "poll", seconds)
    new.tick(now)


def samples(app: TaskQ) -> dict[str, dict[str, float]]:
    """The gauges of schedules: metric -> value of the label -> sample."""
    found: dict[str, dict[str, float]] = {}
    for metric in Exporter(app, CollectorRegistry()).collect():
        for sample in metric.samples:
            label = sample.labels.get("schedule") or sample.labels.get("state")
            if sample.name.startswith("taskq_schedule") and label is not None:
                found.setdefault(sample.name.removeprefix("taskq_"), {})[label] = sample.value
    return found


def test_what_was_taken_out_of_the_code_is_retired_in_every_view(
    app: TaskQ, release: Release, now: datetime, caplog: pytest.LogCaptureFixture, redis_url: str, namespace: str
) -> None:
    new = release("keep", "poll-new")
    replaced(release("keep", "poll"), new, app, now)
    assert {one.name: one.state for one in app.schedules.list()} == {
        "keep": "on", "poll": "retired", "poll-new": "on"
    }  # fmt: skip
    poll = app.schedules.get("poll")
    assert (poll.retired, poll.overdue, poll.next_fire) == (True, 0.0, None)
    assert "schedule poll is retired" in caplog.text
    gauges = samples(app)
    assert gauges["schedule_overdue_seconds"]["poll"] == 0
    assert (gauges["schedules"]["retired"], gauges["schedules"]["on"]) == (1, 2)
    assert "poll" not in gauges["schedule_next_fire_time_seconds"]
    findings = {one.check: one.reason for one in examine(app).findings}
    assert "poll" in findings["fleet.retired"]
    assert not {"fleet.overdue", "fleet.beat"} & findings.keys()
    address = ("--broker-url", redis_url, "--namespace", namespace)
    rows = json.loads(CliRunner().invoke(command, ["list", *address, "--json"]).stdout)["schedules"]
    assert {row["name"]: row["state"] for row in rows}["poll"] == "retired"
    stop(new)


def test_it_is_not_retired_before_thirty_seconds_have_passed(app: TaskQ, release: Release, now: datetime) -> None:
    new = release()
    replaced(release("poll"), new, app, now, seconds=15)
    assert app.schedules.get("poll").state == "on"
    stop(new)


@pytest.mark.parametrize("others", [[], ["billing"]], ids=["no beat at all", "the beat of another app"])
def test_without_a_beat_of_its_app_it_is_overdue_and_not_retired(
    others: list[str], app: TaskQ, release: Release, now: datetime
) -> None:
    old = release("poll")
    old.tick(now)
    stop(old)
    beats = [release("invoices", app=name) for name in others]
    for beat in beats:
        beat.tick(now)
    aged(app, "poll", 120)
    assert app.schedules.get("poll").state == "no beat"
    assert samples(app)["schedule_overdue_seconds"]["poll"] > 60
    findings = {one.check: one.reason for one in examine(app).findings}
    assert "poll" in findings["fleet.overdue"] if others else "fleet.beat" in findings
    assert "fleet.retired" not in findings
    for beat in beats:
        stop(beat)


def test_two_releases_side_by_side_do_not_fight(app: TaskQ, release: Release, now: datetime, redis_client: Any) -> None:
    old, new = release("keep", "poll"), release("keep")
    stream = app.keys.queue("default").stream(5)
    for round_ in range(4):
        for beat in (old, new):
            beat._updated = None
            beat.tick(now + timedelta(seconds=10 * round_))
    assert app.schedules.get("poll").state == "on"
    assert app.schedules.get("poll").revision == 2, "defined once, by the one that has it"
    assert redis_client.xlen(stream) == 2 * 3, "each fire time of each schedule once"
    redis_client.delete(stream)
    stop(old)
    stop(new)


def test_a_rollback_goes_on_where_it_was(app: TaskQ, release: Release, now: datetime, redis_client: Any) -> None:
    new = release("keep")
    replaced(release("keep", "poll"), new, app, now, seconds=3600)
    app.schedules.pause("poll")
    back = release("keep", "poll")
    back.tick(now)
    assert (app.schedules.get("poll").state, app.schedules.get("poll").revision) == ("paused", 2)
    redis_client.delete(app.keys.queue("default").stream(5))
    stop(new)
    stop(back)


def test_it_is_forgotten_a_week_later(app: TaskQ, release: Release, now: datetime) -> None:
    new = release("keep")
    replaced(release("keep", "poll"), new, app, now, seconds=RETIRED_FOR.total_seconds() + 60)
    assert [one.name for one in app.schedules.list()] == ["keep"]
    stop(new)


def test_a_retired_schedule_can_be_removed_at_once(app: TaskQ, release: Release, now: datetime) -> None:
    new = release("keep")
    replaced(release("keep", "poll"), new, app, now)
    app.schedules.remove("poll")
    assert [one.name for one in app.schedules.list()] == ["keep"]
    stop(new)


# --- many schedules ---


def reads_of_all(client: Any) -> int:
    """How often anybody has read a whole hash."""
    return int(client.info("commandstats").get("cmdstat_hgetall", {"calls": 0})["calls"])


def test_adding_and_firing_one_does_not_read_all(
    app: TaskQ, release: Release, now: datetime, redis_client: Any
) -> None:
    beat = release()
    for n in range(5):
        app.schedules.add(f"one-{n}", every("1d"), "shop.job")
    beat.tick(now)
    before = reads_of_all(redis_client)
    for n in range(5):
        app.schedules.add(f"two-{n}", every("1d"), "shop.job")
    app.schedules.pause("one-0")
    app.schedules.remove("one-1")
    beat._updated = None
    beat.tick(now)
    assert reads_of_all(redis_client) == before
    assert {one.name for one in beat._roster.all()} == {f"one-{n}" for n in (0, 2, 3, 4)} | {
        f"two-{n}" for n in range(5)
    }
    stop(beat)


@pytest.mark.parametrize("lost", ["all", "one", "of another kind"])
def test_a_beat_reads_all_where_the_list_of_changes_has_a_gap(
    lost: str, app: TaskQ, release: Release, now: datetime, redis_client: Any
) -> None:
    """As after a change by a release that keeps no such list."""
    beat, changes = release(), app.keys.schedules.changes
    app.schedules.add("one", every("1d"), "shop.job")
    beat.tick(now)
    for name in ("two", "three"):
        app.schedules.add(name, every("1d"), "shop.job")
    if lost == "one":
        redis_client.xdel(changes, "2-0")
    else:
        redis_client.delete(changes)
    if lost == "of another kind":
        redis_client.set(changes, "x")
        app.schedules.add("four", every("1d"), "shop.job")
    beat._updated = None
    beat.tick(now)
    assert {"one", "two", "three"} <= {watched.name for watched in beat._roster.all()}
    stop(beat)


def test_labels_of_schedules_are_bounded(app: TaskQ, release: Release, now: datetime) -> None:
    beat = release("in-code")
    beat.tick(now)
    for n in range(MOST_SCHEDULES + 20):
        app.schedules.add(f"customer-{n:03}", every("1d"), "shop.job")
    app.schedules.pause("customer-219")
    gauges = samples(app)
    assert len(gauges["schedule_paused"]) == MOST_SCHEDULES + 1
    assert {"in-code", "customer-000", "other"} <= gauges["schedule_paused"].keys()
    assert gauges["schedule_paused"]["other"] == 1
    metrics = BeatMetrics(app)
    for n in range(MOST_SCHEDULES + 20):
        app.hooks.emit("schedule_fired", f"customer-{n:03}", "default", now, 0.0)
    series = metrics.snapshot().numbers["taskq_scheduler_lateness_seconds"]
    assert len(series) == MOST_SCHEDULES + 1
    assert ("other",) in series
    stop(beat)
