"""Five real beats that are killed, stopped and started again: every fire time happens once.

The long run of 2,000 fire times, with its figures::

    pytest -m soak -s tests/beat/test_beats.py
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.process import Proc
from support.wait import eventually

from taskq import TaskQ
from taskq.client.schedules.registry import Registry
from taskq.client.schedules.views import instant
from taskq.values.message import decode
from taskq.values.schedule import every, fire_times

Spawn = Callable[..., Proc]

BEATS = 5
SHOP = """
from taskq import PeriodicEntry, TaskQ, every

app = TaskQ("shop")
for number in range({schedules}):
    app.add_periodic(PeriodicEntry(f"s{{number}}", "shop.tick", every({interval}), catch_up="all"))
"""


class Fleet:
    """Five beats, and whoever troubles them."""

    def __init__(self, spawn: Spawn, environment: dict[str, str], seed: int) -> None:
        self._spawn = lambda: spawn("-m", "taskq", "beat", "-A", "beats_shop:app", "-l", "error", env=environment)
        self._random = random.Random(seed)
        self._beats = [self._spawn() for _ in range(BEATS)]
        self._stopped: set[int] = set()
        self.troubles: Counter[str] = Counter()

    def trouble(self) -> None:
        """Kill a beat (and start another), stop one, or let one go on."""
        place = self._random.randrange(BEATS)
        beat = self._beats[place]
        if place in self._stopped:
            beat.signal(signal.SIGCONT)
            self._stopped.remove(place)
            self.troubles["continued"] += 1
        elif self._random.random() < 0.4:
            beat.kill()
            self._beats[place] = self._spawn()
            self.troubles["killed"] += 1
        else:
            beat.signal(signal.SIGSTOP)
            self._stopped.add(place)
            self.troubles["stopped"] += 1

    def settle(self) -> None:
        """Let all of them run, and end in order."""
        for place in self._stopped:
            self._beats[place].signal(signal.SIGCONT)

    def end(self) -> None:
        for beat in self._beats:
            beat.signal(signal.SIGTERM)
        for beat in self._beats:
            assert beat.wait() in (0, -signal.SIGTERM), beat.output()  # it may not have begun yet


def fired(app: TaskQ, client: Any) -> list[str]:
    """The ids of all messages in the queue."""
    entries = client.xrange(app.keys.queue("default").stream(5))
    return [decode(fields[b"m"]).task_id for _, fields in entries]


def judge(app: TaskQ, ids: list[str], interval: float) -> tuple[int, int, int]:
    """Fire times that had to happen up to the last that did, the missed ones and the double ones."""
    times: dict[str, Counter[datetime]] = {}
    for task_id in ids:
        name, _, text = task_id.partition("@")
        times.setdefault(name, Counter())[datetime.fromisoformat(text)] += 1
    expected = missed = 0
    for name, one in Registry(app.sync_broker, app.keys).load().registered.items():
        got = times.get(name, Counter())
        wanted = fire_times(every(interval), instant(one.since_ms), max(got), 1_000_000)
        expected += len(wanted)
        missed += len(set(wanted) - set(got))
        assert not set(got) - set(wanted), "a fire time that is none"
    return expected, missed, sum(count - 1 for each in times.values() for count in each.values())


def run(
    app: TaskQ, client: Any, spawn: Spawn, path: Path, schedules: int, interval: float, wanted: int, pace: float
) -> tuple[dict[str, int], str]:
    """Have the beats fire at least *wanted* times among troubles every *pace* seconds; the faults, and a report."""
    (path / "beats_shop.py").write_text(SHOP.format(schedules=schedules, interval=interval))
    seed = int(os.environ.get("TASKQ_TEST_SEED", random.randrange(10**6)))
    environment = {"TASKQ_BROKER_URL": app.config.broker_url, "TASKQ_NAMESPACE": app.config.namespace}
    fleet = Fleet(spawn, environment, seed)
    stream = app.keys.queue("default").stream(5)
    eventually(lambda: client.xlen(stream) > 0, timeout=30)
    while client.xlen(stream) < wanted * 0.9:
        fleet.trouble()
        time.sleep(pace)
    fleet.settle()
    eventually(lambda: client.xlen(stream) >= wanted, timeout=60)
    fleet.end()
    expected, missed, double = judge(app, fired(app, client), interval)
    client.xtrim(stream, maxlen=0)
    report = (
        f"{expected} fire times, {BEATS} beats, {dict(fleet.troubles)}: {missed} missed, {double} double; seed {seed}"
    )
    return {"missed": missed, "double": double, "short of": max(wanted - expected, 0)}, report


@pytest.mark.slow
def test_beats_that_die_and_stall_miss_nothing_and_double_nothing(
    app: TaskQ, redis_client: Any, spawn: Spawn, tmp_path: Path
) -> None:
    faults, report = run(app, redis_client, spawn, tmp_path, schedules=40, interval=0.5, wanted=240, pace=0.25)
    assert not any(faults.values()), report


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_2000_fire_times(app: TaskQ, redis_client: Any, spawn: Spawn, tmp_path: Path) -> None:
    faults, report = run(app, redis_client, spawn, tmp_path, schedules=40, interval=1, wanted=2_000, pace=0.3)
    assert not any(faults.values()), report
    print(f"\n{report}")


class SteppedClock:
    """This host's clock, which nobody should ask."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.asked = 0

    def time(self) -> float:
        self.asked += 1
        return time.time() + random.choice((-86_400, 86_400))


def test_a_stepped_clock_of_this_host_changes_nothing(
    app: TaskQ, redis_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from taskq.beat import beat

    monkeypatch.setattr(beat, "time", SteppedClock())
    skews: list[float] = []
    app.hooks.listen("clock_skew", skews.append)
    app.schedules.add("job", every(0.1), "shop.job", catch_up="none")
    stop = threading.Event()
    thread = threading.Thread(target=beat.Beat(app).run, args=(stop,))
    thread.start()
    stream = app.keys.queue("default").stream(5)
    eventually(lambda: redis_client.xlen(stream) >= 12)
    stop.set()
    thread.join(30)
    times = [datetime.fromisoformat(task_id.partition("@")[2]) for task_id in fired(app, redis_client)]
    assert times == [times[0] + n * timedelta(seconds=0.1) for n in range(len(times))]
    assert max(abs(skew) for skew in skews) > 80_000
    redis_client.xtrim(stream, maxlen=0)
