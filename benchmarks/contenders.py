"""A queue under measurement: taskq itself (``own/``) or a rival (``rivals/<name>/``), described by ``adapter.toml``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import environments

HERE = Path(__file__).parent
ROOT = HERE.parent
PROBE = HERE / "probe"
PRODUCER_TIMEOUT = 900.0


@dataclass(frozen=True, slots=True)
class Setup:
    """One way to start a queue's workers."""

    name: str
    command: tuple[str, ...]
    """With ``{python}``, ``{bin}``, ``{url}`` and ``{copy}`` to fill in."""
    rate: float
    """No-op tasks per second to expect, roughly: it sizes the runs."""
    env: Mapping[str, str] = field(default_factory=dict)
    copies: int = 1
    """How often the command is started."""
    processes: int = 1
    """How many worker processes that makes."""
    tasks: str = ""
    """Prefix of the tasks it is measured with: ``async_`` where an app has both kinds."""
    results: tuple[bool, ...] = (False, True)


class Contender:
    """A queue, its way to send, and its ways to start workers.

    Args:
        directory: with ``adapter.toml`` and what it names.
        cache: where environments are kept.
    """

    def __init__(self, directory: Path, cache: Path) -> None:
        self.directory = directory
        self.adapter: dict[str, Any] = tomllib.loads((directory / "adapter.toml").read_text())
        self.own = directory.name == "own"
        self.name = "taskq" if self.own else directory.name
        self.title: str = self.adapter["title"]
        self.language: str = self.adapter.get("language", "python")
        self.setups = {name: _setup(name, given) for name, given in self.adapter["workers"].items()}
        self.versions: dict[str, str] = {}
        self._home = cache / self.name
        self._python = Path(sys.executable)
        self._environment: dict[str, str] = {}

    def install(self) -> None:
        """Make its environment; taskq runs from the checkout, in the environment of the harness."""
        if self.own:
            return
        if self.language == "node":
            modules = environments.node_environment(self._home, self.adapter["requirements"])
            self.versions = environments.node_versions(modules, self.adapter["requirements"])
            self._environment = {"NODE_PATH": str(modules)}
        else:
            self._python = environments.python_environment(self._home, self.adapter["requirements"])
            self.versions = environments.python_versions(self._python)

    @property
    def version(self) -> str:
        """Of the package under measurement."""
        return self.versions.get(self.adapter["package"], "")

    def setups_for(self, measure: str) -> list[Setup]:
        """The setups this measure is taken with."""
        return [self.setups[name] for name in self.adapter.get(measure, [])]

    def environment(self, url: str, *, results: bool = False, tally: Path | None = None) -> dict[str, str]:
        """What its processes see."""
        paths = [str(PROBE), str(self.directory)] + ([str(ROOT)] if self.own else [])
        found = (
            os.environ
            | self._environment
            | {
                "PYTHONPATH": os.pathsep.join(paths),
                "PYTHONWARNINGS": "ignore",
                "BENCH_REDIS_URL": url,
                "BENCH_RESULTS": "1" if results else "0",
            }
        )
        found["PATH"] = f"{self._python.parent}{os.pathsep}{found['PATH']}"
        if tally is not None:
            found["BENCH_TALLY"] = str(tally)
        return found

    def command(self, setup: Setup, url: str, copy: int = 0) -> list[str]:
        """The command of one of its workers."""
        places = {"python": str(self._python), "bin": str(self._python.parent), "url": url, "copy": copy}
        return [part.format(**places) for part in setup.command]

    def produce(self, url: str, operation: str, *, results: bool = False, **options: object) -> dict[str, float]:
        """Run its producer; what that measured.

        Raises:
            RuntimeError: it failed; the text has the end of its output.
        """
        program = ["node", "produce.js"] if self.language == "node" else [str(self._python), str(PROBE / "produce.py")]
        flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        done = subprocess.run(
            [*program, operation, *flags],
            cwd=self.directory,
            env=self.environment(url, results=results),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PRODUCER_TIMEOUT,
        )
        if done.returncode:
            raise RuntimeError(f"the producer of {self.name} failed: {done.stderr[-1500:]}")
        measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return measured

    @property
    def page(self) -> int:
        """How many calls it sends at once at best."""
        return int(self.adapter.get("page", 1000))


def own(cache: Path) -> Contender:
    """taskq."""
    return Contender(HERE / "own", cache)


def rival_names() -> list[str]:
    """Every rival there is an adapter for."""
    return sorted(path.parent.name for path in (HERE / "rivals").glob("*/adapter.toml"))


def rival(name: str, cache: Path) -> Contender:
    """One rival."""
    return Contender(HERE / "rivals" / name, cache)


def _setup(name: str, given: Mapping[str, Any]) -> Setup:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return Setup(name, **fields)
