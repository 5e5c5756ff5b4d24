"""Tasks: what became of each, over all queues."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from taskq.broker.views.totals import TaskTotals, read_totals
from taskq.dashboard.routing import NotFoundError, Page
from taskq.dashboard.view import View

page = Page("tasks", "Tasks", "/tasks")

STATES = ("SUCCESS", "FAILURE", "RETRY", "REVOKED", "EXPIRED", "SKIPPED", "RELEASED")


@dataclass(frozen=True, slots=True)
class Row:
    """One task in one queue."""

    task: str
    queue: str
    totals: TaskTotals

    @property
    def mean(self) -> float | None:
        """Seconds of a run; None without one."""
        return self.totals.runtime / self.totals.runs if self.totals.runs else None

    @property
    def ended(self) -> int:
        """Messages that succeeded or failed for good."""
        return self.totals.states.get("SUCCESS", 0) + self.totals.states.get("FAILURE", 0)

    @property
    def failing(self) -> float | None:
        """The share of these that failed; None without one."""
        return self.totals.states.get("FAILURE", 0) / self.ended if self.ended else None


@page.get("/tasks")
def index(view: View) -> Response:
    """Every task that workers have counted, and those of the app's code."""
    rows = _rows(view)
    counted = {row.task for row in rows}
    idle = sorted(name for name in view.site.app.tasks if name not in counted and not name.startswith("taskq."))
    return view.render("tasks.html", rows=rows, idle=idle)


@page.get("/tasks/{task:path}")
def detail(view: View) -> Response:
    """One task."""
    task = view.path("task")
    rows = [row for row in _rows(view) if row.task == task]
    known = view.site.app.tasks.get(task)
    if not rows and known is None:
        raise NotFoundError("No worker has counted anything of this task.")
    groups = [group for group in view.site.app.dlq.groups() if group.task == task][:20]
    return view.render("task.html", task=task, rows=rows, states=STATES, known=known, groups=groups)


def _rows(view: View) -> list[Row]:
    app = view.site.app
    found = read_totals(app.sync_broker.pipeline, [app.keys.queue(name) for name in view.site.queues()])
    rows = [Row(task, queue, totals) for queue, tasks in found.items() for task, totals in tasks.items()]
    return sorted(rows, key=lambda row: (-row.totals.runtime, row.task, row.queue))
