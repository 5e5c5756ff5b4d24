"""How far work on many dead letters is, and stopping it."""

from __future__ import annotations

from starlette.responses import Response

from taskq.dashboard.actions import record
from taskq.dashboard.jobs import Job
from taskq.dashboard.routing import NotFoundError, Page
from taskq.dashboard.view import View

page = Page("jobs")


@page.get("/jobs/{id}")
def show(view: View) -> Response:
    """One job; its page asks again until it has ended."""
    return view.render("job_live.html" if view.part == "live" else "job.html", job=_job(view))


@page.post("/jobs/{id}/stop")
def stop(view: View) -> Response:
    """Have it end after the part that it is at; what it has done stays done."""
    job = _job(view)
    if job.running:
        record(view, "job.stop", job.title)
        job.stopped_by = view.who.name
    return view.redirect(f"/jobs/{job.id}")


def _job(view: View) -> Job:
    job = view.site.jobs.get(view.path("id"))
    if job is None:
        raise NotFoundError("This job is not known here (any more). What it did is in the audit log.")
    return job
