"""Rate limits: how much of each is used, and what waits for it."""

from __future__ import annotations

from starlette.responses import Response

from taskq.dashboard.read.limits import limits
from taskq.dashboard.routing import Page
from taskq.dashboard.sampler import pace
from taskq.dashboard.view import View

MOST_QUEUES = 50
"""Queues with messages that wait for a limit that are looked into."""

page = Page("limits", "Rate limits", "/limits")


@page.get("/limits")
def index(view: View) -> Response:
    """Every limit that is known."""
    known = view.site.queues()
    samples = view.site.sampler.state().queues
    holding = [name for name in known if name in samples and samples[name].stats.parked][:MOST_QUEUES]
    rows = limits(view.site.app, holding)
    template = "limits_live.html" if view.part == "live" else "limits.html"
    return view.render(template, rows=rows, pace=pace(len(holding) + 2 * len(rows)))
