"""What the demo shows while it runs: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from taskq.broker.views.inspect import QueueStats
from taskq.demo.table import PackageRow

_RATE_OVER = 2.0
"""Seconds that the shown rate looks back."""
_LINE_EVERY = 1.0
"""Seconds between two plain lines."""
_BIGGEST = 6


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The demo at one moment."""

    sent: int
    succeeded: int
    stats: QueueStats
    summarised: int
    """Files in the last summary."""

    @property
    def ended(self) -> int:
        """Messages that have come to their end."""
        return self.succeeded + self.stats.dead


class View(Protocol):
    """What the demo tells about itself."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def say(self, text: str) -> None:
        """A line that stays."""

    def show(self, snapshot: Snapshot) -> None:
        """The present state."""


def view_for(console: Console) -> View:
    """The view that fits *console*."""
    return LiveView(console) if console.is_terminal else PlainView(console)


class _Rate:
    """Tasks per second, over the last moments."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, ended: int) -> float:
        now = time.monotonic()
        self._seen.append((now, ended))
        while now - self._seen[0][0] > _RATE_OVER:
            self._seen.popleft()
        began, before = self._seen[0]
        return (ended - before) / (now - began) if now > began else 0.0


class LiveView:
    """A display that redraws itself at the bottom of a terminal."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)
        self._rate = _Rate()

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        self._live.console.print(text, highlight=False, markup=False)

    def show(self, snapshot: Snapshot) -> None:
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            ProgressBar(total=snapshot.sent, completed=snapshot.ended, width=40),
            f"{snapshot.ended} of {snapshot.sent}",
            f"{self._rate.add(snapshot.ended):.0f} tasks/s",
        )
        self._live.update(Group(bar, Text(_figures(snapshot), style="dim")), refresh=True)


class PlainView:
    """A line now and then, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rate = _Rate()
        self._began = self._printed = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show(self, snapshot: Snapshot) -> None:
        rate, now = self._rate.add(snapshot.ended), time.monotonic()
        if now - self._printed >= _LINE_EVERY:
            self._printed = now
            done = f"{snapshot.ended} of {snapshot.sent}"
            self.say(f"{now - self._began:5.1f} s  {done}  {rate:.0f} tasks/s  {_figures(snapshot)}")


def _figures(snapshot: Snapshot) -> str:
    stats = snapshot.stats
    return (
        f"lag {stats.lag}  pending {stats.pending}  delayed {stats.delayed}  dead {stats.dead}  "
        f"summarised {snapshot.summarised}"
    )


def summary_table(rows: Sequence[PackageRow]) -> Table:
    """The biggest packages, and the sum of all."""
    table = Table("package", box=box.SIMPLE, title="summed up by the scheduled job", title_justify="left")
    for name in PackageRow._fields[1:]:
        table.add_column(name, justify="right")
    for row in rows[:_BIGGEST]:
        table.add_row(row.package, *(f"{number:,}" for number in row[1:]))
    if len(rows) > _BIGGEST:
        table.add_row(f"and {len(rows) - _BIGGEST} more", *[""] * (len(row) - 1))
    sums = [sum(column) for column in zip(*(row[1:] for row in rows), strict=True)]
    table.add_section()
    table.add_row("all", *(f"{number:,}" for number in sums))
    return table
