"""Schedules: what fires when, what became of the last fire times; pause, resume, run now."""

from __future__ import annotations

import contextlib
from datetime import datetime

from starlette.responses import Response

from taskq.client.schedules.views import ScheduleInfo
from taskq.dashboard.actions import record
from taskq.dashboard.routing import NotFoundError, Page
from taskq.dashboard.view import View
from taskq.errors import ScheduleError
from taskq.values.redaction import parameters, redact, redact_args

page = Page("schedules", "Schedules", "/schedules")

COMING = 10
PAST = 30


@page.get("/schedules")
def index(view: View) -> Response:
    """Every schedule."""
    schedules = view.site.app.schedules
    return view.render("schedules.html", rows=schedules.list(), beats=schedules.beats())


@page.get("/schedules/{name:path}")
def detail(view: View) -> Response:
    """One schedule."""
    info, schedules = _info(view), view.site.app.schedules
    coming: list[datetime] = []
    with contextlib.suppress(ScheduleError):  # only the code of its app can tell
        coming = schedules.next(info.name, COMING)
    return view.render(
        "schedule.html",
        info=info,
        coming=coming,
        past=schedules.history(info.name, limit=PAST),
        args=redact_args(info.args, parameters(view.site.app.tasks.get(info.task))),
        kwargs=redact(info.kwargs),
    )


@page.post("/schedule/pause/{name:path}")
def pause(view: View) -> Response:
    """Fire it no more."""
    info = _info(view)
    record(view, "schedule.pause", info.name)
    view.site.app.schedules.pause(info.name)
    return view.redirect(f"/schedules/{info.name}", f"{info.name} is paused")


@page.post("/schedule/resume/{name:path}")
def resume(view: View) -> Response:
    """Let it go on."""
    info = _info(view)
    record(view, "schedule.resume", info.name)
    view.site.app.schedules.resume(info.name)
    return view.redirect(f"/schedules/{info.name}", f"{info.name} resumed")


@page.post("/schedule/run/{name:path}")
def run_now(view: View) -> Response:
    """Send its message now."""
    info = _info(view)
    record(view, "schedule.run", info.name)
    result = view.site.app.schedules.run_now(info.name)
    return view.redirect(f"/schedules/{info.name}", f"Sent: {result.id}")


def _info(view: View) -> ScheduleInfo:
    try:
        return view.site.app.schedules.get(view.path("name"))
    except ScheduleError as error:
        raise NotFoundError(str(error)) from error
