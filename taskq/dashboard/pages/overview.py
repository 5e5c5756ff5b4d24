"""The overview: what needs attention, how fast work moves, and where it waits."""

from __future__ import annotations

from starlette.responses import Response

from taskq.dashboard.attention import attention
from taskq.dashboard.routing import Page
from taskq.dashboard.view import View

page = Page("overview", "Overview", "/")

SHOWN = 12


@page.get("/")
def show(view: View) -> Response:
    """All of it, or what changes each second."""
    state = view.site.sampler.state()
    queues = sorted(state.queues.values(), key=lambda one: (-one.stats.backlog, one.stats.queue))
    seen = view.site.watch.seen([sample.stats for sample in queues])
    template = "overview_live.html" if view.part == "live" else "overview.html"
    return view.render(
        template,
        state=state,
        moment=state.moments[-1] if state.moments else None,
        queues=queues[:SHOWN],
        left_out=max(len(queues) - SHOWN, 0),
        attention=attention(queues, seen),
        workers=seen.alive,
    )
