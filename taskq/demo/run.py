"""The demo from start to exit code."""

from __future__ import annotations

import sysconfig
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from rich.console import Console

from taskq.broker.views.survey import read_queue
from taskq.client.result import Result
from taskq.demo.processes import DemoError, Processes, set_environment
from taskq.demo.source import package_of, python_files
from taskq.demo.table import Table
from taskq.demo.view import Snapshot, summary_table, view_for
from taskq.embedded import EmbeddedRedis
from taskq.errors import ConfigError, ExitCode

WORKERS = 2
APP = ("-A", "taskq.demo.app:app")
WORKER_FLAGS = ("-Q", "reports,files", "-w", str(WORKERS), "-c", "2", "--async-concurrency", "8")
"""More threads would not parse faster: parsing holds the interpreter lock."""
_LOOK_EVERY = 0.1
_STALLED_AFTER = 60.0
"""Seconds without any progress after which the demo fails."""
_BROKEN = "def broken(:\n"
_REPAIRED = "def repaired():\n    return 1\n"


def run_demo(folder: Path | None, *, keep: bool, metrics_port: int, console: Console) -> ExitCode:
    """Run the demo.

    Args:
        folder: whose Python files to work on; None for the standard library.
        keep: leave it running until Ctrl-C, with metrics.
        metrics_port: of the queues' metrics; the workers' are one above.
        console: where to show it.

    Returns:
        OK only if the numbers agree at the end.

    Raises:
        ConfigError: no Redis server program, or no Python files in *folder*.
        DemoError: one of the demo's processes ended, or nothing went on any more.
    """
    folder = (folder or Path(sysconfig.get_path("stdlib"))).resolve()
    files = python_files(folder)
    if not files:
        raise ConfigError(f"no Python files in {folder}")
    with EmbeddedRedis() as server:
        workspace = server.directory / "demo"  # removed with the server, also when we are killed
        workspace.mkdir()
        set_environment(server.url, workspace)
        with (
            Processes(workspace) as processes,
            closing(Demo(workspace, processes, console)) as demo,
        ):
            demo.view.say(f"Redis {server.version} on port {server.port}, {WORKERS} worker processes, 1 beat")
            demo.start(metrics_port + 1 if keep else None)
            demo.work_on(files, folder)
            ok = demo.report()
            if keep:
                demo.keep(server.url, metrics_port)
    return ExitCode.OK if ok else ExitCode.FAILED


class Demo:
    """One run.

    Args:
        workspace: a directory for the table, the logs and the broken file.
        processes: starts the worker and the beat.
        console: where to show it.
    """

    def __init__(self, workspace: Path, processes: Processes, console: Console) -> None:
        # only now: the app is configured by the environment when it is imported
        from taskq.demo import app as demo_app

        self._app = demo_app.app
        self._tasks = demo_app
        self._keys = self._app.keys.queue(demo_app.QUEUE)
        self._processes = processes
        self._console = console
        self._broken = workspace / "broken.py"
        self._table = Table(workspace)
        self._results: list[Result[dict[str, int]]] = []
        self._began = time.monotonic()
        self.view = view_for(console)

    def start(self, metrics_port: int | None) -> None:
        """Make the table, start the worker (with metrics, if a port is given) and the beat."""
        self._table.create()
        metrics = () if metrics_port is None else ("--metrics-port", str(metrics_port))
        self._processes.start("worker", *APP, *WORKER_FLAGS, *metrics)
        self._processes.start("beat", *APP)

    def work_on(self, files: list[Path], folder: Path) -> None:
        """Send every file, wait for the end of all, then repair the broken file and replay its dead letter."""
        with self.view:
            broken = self._send(files, folder)
            self.view.say(f"sent {len(files)} Python files of {folder}, and one that is broken on purpose")
            self._wait_for(lambda now: now.ended >= now.sent and not now.stats.backlog + now.stats.delayed)
            dead = self._app.dlq.count(self._keys.queue)
            self.view.say(
                f"{dead} cannot be parsed: each was tried {self._tasks.ATTEMPTS} times and is a dead letter now"
            )
            self._replay(broken)
            self._wait_for(lambda now: now.summarised == now.succeeded)

    def report(self) -> bool:
        """Print the summary; whether its numbers agree."""
        snapshot = self._look()
        succeeded = sum(result.successful() for result in self._results)
        sent, dead = len(self._results), snapshot.stats.dead
        checks = [
            (f"sent {sent} = succeeded {succeeded} + dead {dead}", sent == succeeded + dead),
            (f"rows in the table: {snapshot.succeeded}", snapshot.succeeded == succeeded),
            (f"files in the summary: {snapshot.summarised}", snapshot.summarised == succeeded),
        ]
        self._console.print(summary_table(self._table.summary()))
        for text, holds in checks:
            self.view.say(f"{text}  {'ok' if holds else 'WRONG'}")
        seconds = time.monotonic() - self._began
        self.view.say(f"{seconds:.1f} s, start of all processes included; the job ran {self._table.runs()} times")
        return all(holds for _, holds in checks)

    def keep(self, url: str, metrics_port: int) -> None:
        """Go on until Ctrl-C, with metrics.

        Raises:
            DemoError: one of the processes ended.
        """
        self._processes.start("metrics", *APP, "--port", str(metrics_port))
        self.view.say(f"metrics of the queues   http://127.0.0.1:{metrics_port}/metrics")
        self.view.say(f"metrics of the workers  http://127.0.0.1:{metrics_port + 1}/metrics")
        self.view.say(f"a look around           taskq queues --broker-url {url}")
        self.view.say("Ctrl-C ends it")
        try:
            while True:
                self._processes.check()
                time.sleep(_LOOK_EVERY)
        except KeyboardInterrupt:
            return

    def close(self) -> None:
        """Close the connections to Redis."""
        self._app.close()

    def _send(self, files: list[Path], folder: Path) -> Result[dict[str, int]]:
        """Send every file and the broken one; the result of the latter."""
        self._broken.write_text(_BROKEN)
        calls = [(file, (str(file), package_of(file, folder))) for file in files]
        small = [call for file, call in calls if file.stat().st_size < self._tasks.SMALL]
        large = [call for file, call in calls if file.stat().st_size >= self._tasks.SMALL]
        broken = self._tasks.parse_small.delay(str(self._broken), "(broken)")
        results = self._tasks.parse_small.delay_many(small) + self._tasks.parse_large.delay_many(large)
        self._results = [broken, *results]
        return broken

    def _replay(self, broken: Result[dict[str, int]]) -> None:
        self._broken.write_text(_REPAIRED)
        self._app.dlq.replay([broken.id], queue=self._keys.queue)
        counts = broken.get(timeout=_STALLED_AFTER)
        self.view.say(f"repaired {self._broken.name} and replayed it: {broken.status}, {counts}")

    def _wait_for(self, done: Callable[[Snapshot], bool]) -> None:
        """Show what goes on until *done*.

        Raises:
            DemoError: a process ended, or nothing has changed for long.
        """
        last, changed = None, time.monotonic()
        while not done(snapshot := self._look()):
            self.view.show(snapshot)
            self._processes.check()
            if (progress := (snapshot.ended, snapshot.summarised)) != last:
                last, changed = progress, time.monotonic()
            elif time.monotonic() - changed > _STALLED_AFTER:
                raise DemoError(f"nothing has happened for {_STALLED_AFTER:g} s: {snapshot}")
            time.sleep(_LOOK_EVERY)
        self.view.show(snapshot)

    def _look(self) -> Snapshot:
        return Snapshot(
            sent=len(self._results),
            succeeded=self._table.rows(),
            stats=read_queue(self._app.sync_broker.execute, self._keys).stats,
            summarised=sum(row.files for row in self._table.summary()),
        )
