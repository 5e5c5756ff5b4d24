"""How far work on many dead letters is."""

from __future__ import annotations

from starlette.responses import Response

from taskq.dashboard.routing import NotFoundError, Page
from taskq.dashboard.view import View

page = Page("jobs")


@page.get("/jobs/{id}")
def show(view: View) -> Response:
    """One job; its page asks again until it has ended."""
    job = view.site.jobs.get(view.path("id"))
    if job is None:
        raise NotFoundError("This job is not known here (any more). What it did is in the audit log.")
    return view.render("job_live.html" if view.part == "live" else "job.html", job=job)
