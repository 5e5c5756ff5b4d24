"""One run: start everything, load and break it, heal, drain, read, judge."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import redis

from .checker import Facts, Judgement, Recovery, Verdict, judge, recoveries
from .cluster import Cluster
from .nemesis import Fleet, Nemesis, schedule

PROGRESS = 15.0
"""Seconds between two lines about a run."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run is made of."""

    seed: int
    minutes: float = 1.0
    tasks: int = 20_000
    kills: int = 20
    redis_kills: int = -1
    """-1: one for every ten kills."""
    only: str = ""
    """One kind of fault, *kills* times, instead of the mixture."""
    lease: float = 2.0
    producers: int = 2
    beats: int = 2
    workers: tuple[tuple[str, ...], ...] = (("-c", "4"), ("-c", "4"), ("-P", "processes", "-c", "2"))
    appendfsync: str = "always"

    @property
    def redis_crashes(self) -> int:
        """How often Redis is killed."""
        return math.ceil(self.kills / 10) if self.redis_kills < 0 else self.redis_kills


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    settings: Settings
    judgement: Judgement
    facts: Facts | None
    recoveries: list[Recovery]
    load_seconds: float
    drain_seconds: float
    trouble: str = ""
    """Why the verdict is UNKNOWN."""


def run(settings: Settings, folder: Path, say: Callable[[str], None] = lambda text: None) -> Outcome:
    """Run once; everything that was recorded stays in *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(asdict(settings), indent=1))
    with Cluster(folder, lease=settings.lease, appendfsync=settings.appendfsync) as cluster:
        try:
            return _run(settings, cluster, say)
        except Exception as error:  # the harness broke: nothing is known about taskq
            say(f"the harness failed: {error!r}")
            nothing = Judgement(Verdict.UNKNOWN, {}, judge(_no_facts()).counts)
            return Outcome(settings, nothing, None, [], 0.0, 0.0, repr(error))


def _run(settings: Settings, cluster: Cluster, say: Callable[[str], None]) -> Outcome:
    fleet = Fleet()
    for flags in settings.workers:
        fleet.add("worker", lambda flags=flags: cluster.worker(*flags))  # type: ignore[misc]
    for _ in range(settings.beats):
        fleet.add("beat", cluster.beat)
    began = time.monotonic()
    seconds = settings.minutes * 60
    share = settings.tasks // settings.producers
    for index in range(settings.producers):
        first, last, rate = index * share + 1, (index + 1) * share, share / seconds
        fleet.add(
            "producer",
            lambda first=first, last=last, rate=rate: cluster.producer(first, last, rate, settings.seed),  # type: ignore[misc]
        )
    ops = schedule(settings.seed, seconds, settings.kills, settings.redis_crashes, settings.only)
    nemesis = Nemesis(cluster, fleet, ops)
    say(f"{settings.tasks} tasks in {seconds:g} s, {len(ops)} faults, seed {settings.seed}")
    told = began
    while not nemesis.done or fleet.sending():
        nemesis.step()
        fleet.tend()
        if time.monotonic() - told >= PROGRESS:
            told = time.monotonic()
            say(f"{told - began:.0f} s: {len(cluster.log.faults)} faults so far, {_waiting(cluster)}")
        time.sleep(0.01)
    nemesis.heal()
    load_seconds = time.monotonic() - began
    say("healed; draining")
    began = time.monotonic()
    cluster.stop([process for process, _ in fleet.members["beat"]])
    fleet.members["beat"].clear()
    stuck = cluster.drain(4 * settings.lease + 60 + settings.tasks / 500, fleet.tend)
    drain_seconds = time.monotonic() - began
    fleet.tend()
    fleet.stopping = True
    cluster.stop(fleet.all())
    say("reading the history")
    facts = cluster.facts(stuck or "; ".join(fleet.unexpected))
    return Outcome(settings, judge(facts), facts, recoveries(facts), load_seconds, drain_seconds)


def _waiting(cluster: Cluster) -> str:
    try:
        return f"{sum(cluster.backlog().values())} messages wait or run"
    except redis.RedisError as error:
        return f"Redis does not answer ({error})"


def _no_facts() -> Facts:
    from .commits import CommitLog

    return Facts((), (), CommitLog(), {})
