"""One run of the benchmarks: what is shared by all its measures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine, source
from benchmarks.contenders import PROBE, Contender, Setup
from benchmarks.figures import Sample, spread, summarize
from benchmarks.readout import Readout
from benchmarks.server import Server
from benchmarks.sizes import Sizes
from benchmarks.workers import Workers

Rows = dict[str, dict[str, Any]]
"""By the name of the trial; for JSON."""


def _nothing() -> None:
    """No preparation."""


@dataclass(slots=True)
class Trial:
    """Something that is measured once per turn."""

    name: str
    """``contender/variant`` or ``bare/loop``."""
    command: str
    """For the reader: what was run."""
    take: Callable[[], Sample]
    """Takes one sample."""
    prepare: Callable[[], None] = _nothing
    """Once, before the first turn."""
    about: dict[str, Any] = field(default_factory=dict)
    """What else the report should know of it."""


@dataclass(slots=True)
class Bench:
    """The means of a run."""

    sizes: Sizes
    reps: int
    server: Server
    scratch: Path
    contenders: Sequence[Contender]
    bare: bool = True
    """Whether the bare loops are measured too."""

    def snapshot(self, name: str) -> Path:
        """Where a trial keeps the data that each of its samples starts from."""
        return self.scratch / f"{name.replace('/', '-')}.rdb"

    def workers(self, contender: Contender, setup: Setup, *, results: bool = False, grace: float = 0) -> Workers:
        """Start workers on the run's server."""
        return Workers(contender, setup, self.server, self.scratch, results=results, grace=grace)

    def run_bare(self, operation: str, amount: float) -> tuple[dict[str, Any], Readout]:
        """Run one of ``probe/bare.py``: what it printed, and its tally."""
        readout = Readout(self.scratch / "tally")
        environment = {"BENCH_REDIS_URL": self.server.url, "BENCH_TALLY": str(readout.path)}
        done = subprocess.run(
            [sys.executable, str(PROBE / "bare.py"), operation, str(amount)],
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        lines = done.stdout.splitlines()
        return (json.loads(lines[-1]) if lines else {}), readout

    def take_in_turns(self, trials: Sequence[Trial], keep: Callable[[Rows], None]) -> None:
        """Every trial once, then every trial again: a slow spell of the machine hits all alike.

        Args:
            trials: what to measure.
            keep: gets every row as it is after each turn, and when the run is interrupted.
        """
        turns = Turns(self.sizes.name, trials)
        try:
            for trial in trials:
                turns.attempt(trial, trial.prepare)
            for turn in range(self.reps):
                for trial in trials:
                    turns.speeds.append(machine.speed())
                    if turns.attempt(trial, trial.take):
                        figures = ", ".join(f"{k} {v:,.4g}" for k, v in turns.samples[trial.name][-1].items())
                        say(f"  {turn + 1}/{self.reps} {trial.name}: {figures}")
                keep(turns.rows())
        finally:
            keep(turns.rows())


class Turns:
    """The samples of one measure up to now.

    Args:
        sizes: their name, for the record.
        trials: what is measured.
    """

    def __init__(self, sizes: str, trials: Sequence[Trial]) -> None:
        self._sizes = sizes
        self._trials = trials
        self._date, self._source = now(), source.digest()
        self._errors: dict[str, str] = {}
        self.samples: dict[str, list[Sample]] = {trial.name: [] for trial in trials}
        self.speeds: list[float] = []
        """Of the machine, before each sample."""

    def attempt(self, trial: Trial, work: Callable[[], Sample | None]) -> bool:
        """Do *work* unless the trial failed before; whether it gave a sample."""
        if trial.name in self._errors:
            return False
        try:
            sample = work()
        except Exception as error:  # one contender that fails must not end the run
            self._errors[trial.name] = f"{type(error).__name__}: {error}"[-1000:]
            say(f"  {trial.name}: FAILED: {self._errors[trial.name]}")
            return False
        if sample is not None:
            self.samples[trial.name].append(sample)
        return sample is not None

    def rows(self) -> Rows:
        """Per trial what was run, when, on which code and machine, and what it measured or why it failed."""
        code = source.during(self._source)
        speed = spread(self.speeds) if self.speeds else None
        rows: Rows = {}
        for trial in self._trials:
            row = rows[trial.name] = {"command": trial.command, **trial.about}
            if samples := self.samples[trial.name]:
                taken = {"date": self._date, "turns": len(samples), "sizes": self._sizes, "source": code}
                row |= {"taken": taken | {"machine_speed": speed}, "figures": summarize(samples), "samples": samples}
            if trial.name in self._errors:
                row["error"] = self._errors[trial.name]
        return rows


def now() -> str:
    """The date and time of a measurement."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def say(text: str) -> None:
    """Tell whoever waits."""
    print(text, flush=True)
