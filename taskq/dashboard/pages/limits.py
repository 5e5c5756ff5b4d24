"""Rate limits: how much of each is used, and what waits for it."""

from __future__ import annotations

from starlette.responses import Response

from taskq.dashboard.read.limits import limits
from taskq.dashboard.routing import Page
from taskq.dashboard.view import View

page = Page("limits", "Rate limits", "/limits")


@page.get("/limits")
def index(view: View) -> Response:
    """Every limit that is known."""
    rows = limits(view.site.app, view.site.queues())
    return view.render("limits_live.html" if view.part == "live" else "limits.html", rows=rows)
