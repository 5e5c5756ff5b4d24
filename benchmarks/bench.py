"""One run of the benchmarks: what is shared by all its measures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.contenders import PROBE, Contender, Setup
from benchmarks.figures import Sample, spread, summarize
from benchmarks.readout import Readout
from benchmarks.server import Server
from benchmarks.sizes import Sizes
from benchmarks.workers import Workers


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

    def take_in_turns(self, trials: Sequence[Trial]) -> dict[str, Any]:
        """Every trial once, then every trial again: a slow spell of the machine hits all alike."""
        samples: dict[str, list[Sample]] = {trial.name: [] for trial in trials}
        errors: dict[str, str] = {}
        speeds: list[float] = []

        def attempt(trial: Trial, work: Callable[[], Sample | None]) -> None:
            if trial.name in errors:
                return
            try:
                sample = work()
            except Exception as error:  # one contender that fails must not end the run
                errors[trial.name] = f"{type(error).__name__}: {error}"[-1000:]
                say(f"  {trial.name}: FAILED: {errors[trial.name]}")
                return
            if sample is not None:
                samples[trial.name].append(sample)

        for trial in trials:
            attempt(trial, trial.prepare)
        for turn in range(self.reps):
            for trial in trials:
                speeds.append(machine.speed())
                attempt(trial, trial.take)
                if trial.name not in errors:
                    figures = ", ".join(f"{k} {v:,.4g}" for k, v in samples[trial.name][-1].items())
                    say(f"  {turn + 1}/{self.reps} {trial.name}: {figures}")
        rows = {
            trial.name: {"command": trial.command, **trial.about}
            | (
                {"figures": summarize(samples[trial.name]), "samples": samples[trial.name]}
                if samples[trial.name]
                else {}
            )
            | ({"error": errors[trial.name]} if trial.name in errors else {})
            for trial in trials
        }
        return {"machine_speed": spread(speeds), "rows": rows}


def say(text: str) -> None:
    """Tell whoever waits."""
    print(text, flush=True)
