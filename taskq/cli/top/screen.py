"""Draws the state for a terminal of a given size; 80 by 24 is enough."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from taskq.broker.views.inspect import QueueStats
from taskq.cli.output import age, size
from taskq.cli.top.state import Action, Do, State
from taskq.values.escaping import escaped

KEYS = "↑↓ move  p pause/resume  r replay dead letters  Tab workers/running  q quit"
_FIXED = 6
"""Lines beside the rows of the tables: heading, two column heads, a gap, the question or message, the keys."""


def draw(state: State, where: str, width: int, height: int) -> RenderableType:
    """The whole screen.

    Args:
        state: what to show.
        where: the server and namespace, for the heading.
        width, height: of the terminal, in characters.
    """
    room = max(height - _FIXED, 2)
    below = _running_rows(state) if state.panel == "running" else _worker_rows(state)
    queues = state.snapshot.queues
    above_room = min(max(len(queues), 1), max(room - min(len(below), room // 2), 1))
    lines: list[RenderableType] = [
        _heading(state, where, width),
        _queues(state, above_room, width),
        Text(),
        (_running if state.panel == "running" else _workers)(below[: room - above_room], width),
    ]
    used = 4 + above_room + min(len(below), room - above_room)
    lines += [Text()] * max(height - used - 2, 0)
    return Group(*lines, _status(state, width), _line(KEYS, width, "dim"))


def _heading(state: State, where: str, width: int) -> Text:
    snapshot = state.snapshot
    records = [worker.recent for worker in snapshot.workers if worker.recent]
    slots = sum(record.slots + record.async_slots for record in records)
    clock = time.strftime("%H:%M:%S", time.gmtime(snapshot.at)) if snapshot.at else "--:--:--"
    figures = (
        f"{clock} UTC  {len(snapshot.workers)} workers {sum(record.busy for record in records)}/{slots} busy"
        f"  {sum(snapshot.rates.values()):,.0f}/s"
    )
    name = escaped(f"taskq top  {where}")[: max(width - len(figures) - 2, 10)]
    return _line(f"{name}{figures:>{max(width - len(name), 0)}}", width, "bold")


def _state(queue: QueueStats) -> str:
    if queue.paused:
        return "paused"
    return "unread" if queue.backlog and not queue.workers and queue.needs_workers else ""


def _queues(state: State, room: int, width: int) -> Table:
    queues = state.snapshot.queues
    first = max(0, min(state.selected - room // 2, len(queues) - room))
    table = _table(["queue", "state"], ["lag", "pending", "delayed", "dead", "oldest", "rate/s", "workers"], width)
    for row, queue in enumerate(queues[first : first + room], first):
        style = "reverse" if row == state.selected else _colour(queue)
        table.add_row(
            Text(escaped(queue.queue)),
            _state(queue),
            *(f"{count}" for count in (queue.lag, queue.pending, queue.delayed, queue.dead)),
            age(queue.oldest_age),
            f"{state.snapshot.rates.get(queue.queue, 0.0):,.1f}",
            f"{queue.workers}",
            style=style,
        )
    if not queues:
        table.add_row("no queues yet", *[""] * 8)
    return table


def _colour(queue: QueueStats) -> str:
    if queue.paused:
        return "yellow"
    return "red" if queue.backlog and not queue.workers else ""


def _running_rows(state: State) -> list[list[str]]:
    now = time.time()
    rows = [
        (max(now - run.started_at / 1000, 0), run, worker.recent.host, worker.recent.pid)
        for worker in state.snapshot.workers
        if worker.recent
        for run in worker.recent.running
    ]
    rows.sort(key=lambda row: -row[0])
    return [
        [run.task, run.id, run.queue, str(run.attempt), age(seconds), f"{host}:{pid}"]
        for seconds, run, host, pid in rows
    ]


def _worker_rows(state: State) -> list[list[str]]:
    rows = []
    for worker in state.snapshot.workers:
        record = worker.record
        if record is None:
            rows.append([worker.name, "-", "-", "-", "-", "-", "" if worker.alive else "late"])
            continue
        rows.append(
            [
                f"{record.host}:{record.pid}",
                ",".join(worker.queues),
                f"{record.busy}/{record.slots + record.async_slots}",
                f"{record.processed}",
                f"{record.failed}",
                size(record.rss),
                "" if worker.alive else "late",
            ]
        )
    return rows


def _running(rows: Sequence[Sequence[str]], width: int) -> Table:
    table = _table(["running", "task id", "queue"], ["attempt", "for", "worker"], width)
    for row in rows:
        table.add_row(*(Text(escaped(cell)) for cell in row))
    return table


def _workers(rows: Sequence[Sequence[str]], width: int) -> Table:
    table = _table(["worker", "queues"], ["busy", "done", "failed", "memory", "state"], width)
    for row in rows:
        table.add_row(*(Text(escaped(cell)) for cell in row))
    return table


def _table(names: Sequence[str], numbers: Sequence[str], width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold cyan", width=width, padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=1 if name in names[:2] else None)
    for name in numbers:
        table.add_column(name, no_wrap=True, justify="right")
    return table


def _status(state: State, width: int) -> Text:
    if state.question is not None:
        return _line(_question(state.question, state), width, "bold yellow")
    if state.snapshot.trouble:
        return _line(state.snapshot.trouble, width, "bold red")
    return _line(state.message, width, "green")


def _question(action: Action, state: State) -> str:
    dead = next((queue.dead for queue in state.snapshot.queues if queue.queue == action.queue), 0)
    what = f"replay {dead} dead letters of {action.queue}" if action.do is Do.REPLAY else action.do.value
    return f"{what}? y/n"


def _line(text: str, width: int, style: str) -> Text:
    return Text(escaped(text)[:width], style=style, no_wrap=True, overflow="crop")
