"""Workers: what they are, what they run, and whether they live."""

from __future__ import annotations

from starlette.responses import Response

from taskq.broker.views.workers import WorkerInfo, read_last_words, read_workers
from taskq.dashboard.routing import NotFoundError, Page
from taskq.dashboard.sampler import pace
from taskq.dashboard.view import View

page = Page("workers", "Workers", "/workers")


@page.get("/workers")
def index(view: View) -> Response:
    """Every worker process."""
    workers = _read(view)
    records = [worker.record for worker in workers if worker.alive and worker.record]
    template = "workers_live.html" if view.part == "live" else "workers.html"
    return view.render(
        template,
        workers=workers,
        versions=sorted({record.version for record in records}),
        slots=sum(record.slots + record.async_slots for record in records),
        busy=sum(record.busy for record in records),
        rss=sum(record.rss for record in records),
        pace=pace(len(view.site.queues()) + 2),
        known=bool(records),
        late=[worker for worker in workers if not worker.alive],
    )


@page.get("/workers/{name:path}")
def detail(view: View) -> Response:
    """One worker process."""
    name = view.path("name")
    found = next((worker for worker in _read(view) if worker.name == name), None)
    app = view.site.app
    if found is None:
        found = read_last_words(app.sync_broker.execute, app.keys, name)
    if found is None:
        raise NotFoundError("This worker has stopped, or died longer ago than its last report is kept.")
    template = "worker_live.html" if view.part == "live" else "worker.html"
    return view.render(template, worker=found, pace=pace(len(view.site.queues()) + 2))


def _read(view: View) -> list[WorkerInfo]:
    return read_workers(view.site.app.sync_broker.pipeline, view.site.app.keys, view.site.queues())
