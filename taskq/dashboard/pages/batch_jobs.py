"""Batch jobs: how far each has come, and its last result."""

from __future__ import annotations

from starlette.responses import Response

from taskq.dashboard.actions import record
from taskq.dashboard.read.batch_jobs import batch_jobs
from taskq.dashboard.routing import NotFoundError, Page
from taskq.dashboard.sampler import pace
from taskq.dashboard.view import View
from taskq.values.redaction import redact

page = Page("batch_jobs", "Batch jobs", "/batch-jobs")


@page.get("/batch-jobs")
def index(view: View) -> Response:
    """Every batch job."""
    found, commands = batch_jobs(view.site.app)
    rows = [(job, redact(job.result)) for job in found]
    template = "batch_jobs_live.html" if view.part == "live" else "batch_jobs.html"
    return view.render(template, rows=rows, runnable=set(view.site.app.batch_jobs), pace=pace(commands))


@page.post("/batch-job/run/{name:path}")
def run_now(view: View) -> Response:
    """Have a worker run it now."""
    name = view.path("name")
    if name not in view.site.app.batch_jobs:
        raise NotFoundError("Only a dashboard that knows the code of a batch job can run it (-A).")
    record(view, "batch_job.run", name)
    result = view.site.app.jobs.run(name)
    return view.redirect("/batch-jobs", f"Sent: {result.id}")
