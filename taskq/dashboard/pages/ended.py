"""Messages that ended lately: how, how long their last run took, and on which worker."""

from __future__ import annotations

from starlette.responses import Response

from taskq.broker.views.ended import STATES, read_ended
from taskq.dashboard.pages.messages import TABS
from taskq.dashboard.routing import Page
from taskq.dashboard.sampler import pace
from taskq.dashboard.view import View

page = Page("messages")

SHOWN = 100
MOST_QUEUES = 8
"""Queues that are read where none is chosen: the ones that move most."""


@page.get("/ended")
def index(view: View) -> Response:
    """What ended lately, the latest first."""
    queues = view.site.queues()
    queue = view.query("queue") if view.query("queue") in queues else ""
    state, task = view.query("outcome").upper(), view.query("task")
    state = state if state in STATES else ""
    looked_at = [queue] if queue else _moving(view)
    app = view.site.app
    found = read_ended(app.sync_broker.pipeline, [app.keys.queue(name) for name in looked_at])
    kept = {"queue": queue, "task": task, "q": view.query("q"), "outcome": state.lower()}
    rows = [item for item in found if state in ("", item[1].state) and task in item[1].task and kept["q"] in item[1].id]
    template = "ended_live.html" if view.part == "live" else "ended.html"
    answer = view.render(
        template, rows=rows[:SHOWN], found=len(rows), queue=queue, queues=queues, states=STATES, kept=kept, tabs=TABS,
        left_out=0 if queue else len(queues) - len(looked_at), pace=pace(2 * len(looked_at)),
    )  # fmt: skip
    return view.filtered(answer, "/ended", **kept)


def _moving(view: View) -> list[str]:
    """The queues with the most throughput."""
    samples = view.site.sampler.state().queues.values()
    return [one.stats.queue for one in sorted(samples, key=lambda one: -one.rate)[:MOST_QUEUES]]
