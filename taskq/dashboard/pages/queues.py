"""Queues: backlog, age, drain time; pause, resume, purge."""

from __future__ import annotations

from starlette.responses import Response

from taskq.dashboard.actions import record
from taskq.dashboard.read.queues import QueueSample
from taskq.dashboard.render import number
from taskq.dashboard.routing import NotFoundError, Page
from taskq.dashboard.view import View

page = Page("queues", "Queues", "/queues")


@page.get("/queues")
def index(view: View) -> Response:
    """Every queue."""
    state = view.site.sampler.state()
    template = "queues_live.html" if view.part == "live" else "queues.html"
    return view.render(template, state=state, queues=list(state.queues.values()))


@page.get("/queues/{queue:path}")
def detail(view: View) -> Response:
    """One queue."""
    sample = _sample(view)
    template = "queue_live.html" if view.part == "live" else "queue.html"
    spark = view.site.sampler.latest.sparks.get(sample.stats.queue, ())
    return view.render(template, sample=sample, stats=sample.stats, spark=spark)


@page.post("/queue/pause/{queue:path}")
def pause(view: View) -> Response:
    """Deliver nothing more of it."""
    queue = _name(view)
    record(view, "queue.pause", queue)
    changed = view.site.app.pause(queue)
    return view.redirect(_back(view, queue), f"{queue} is paused" if changed else f"{queue} was paused already")


@page.post("/queue/resume/{queue:path}")
def resume(view: View) -> Response:
    """Deliver its messages again."""
    queue = _name(view)
    record(view, "queue.resume", queue)
    changed = view.site.app.resume(queue)
    return view.redirect(_back(view, queue), f"{queue} resumed" if changed else f"{queue} was not paused")


@page.post("/queue/purge/{queue:path}")
def purge(view: View) -> Response:
    """Drop what waits in it; the form repeats the queue's name, so that none is purged by a slip."""
    queue = _name(view)
    if view.sent("confirm") != queue:
        return view.redirect(f"/queues/{queue}", "Nothing was purged: the name that you typed is another", bad=True)
    delayed = view.sent("delayed") == "yes"
    record(view, "queue.purge", queue, delayed=delayed)
    dropped = view.site.app.purge(queue, delayed=delayed)
    return view.redirect(f"/queues/{queue}", f"{number(dropped)} messages of {queue} dropped")


def _sample(view: View) -> QueueSample:
    queue = _name(view)
    sampler = view.site.sampler
    sampler.touch([queue])
    found = sampler.state().queues.get(queue)
    if found is None:
        raise NotFoundError(f"There is no queue {queue}.")
    return found


def _name(view: View) -> str:
    queue = view.path("queue")
    if queue not in view.site.queues():
        raise NotFoundError(f"There is no queue {queue}.")
    return queue


def _back(view: View, queue: str) -> str:
    return "/queues" if view.sent("back") == "queues" else f"/queues/{queue}"
