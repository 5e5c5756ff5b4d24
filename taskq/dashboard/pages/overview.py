"""The overview: what needs attention, how fast work moves, and where it waits."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from taskq.dashboard.read.queues import QueueSample
from taskq.dashboard.render import age, number
from taskq.dashboard.routing import Page
from taskq.dashboard.sampler import State
from taskq.dashboard.view import View

page = Page("overview", "Overview", "/")

OLD = 60.0
"""Seconds that the oldest message may wait before the overview points at it."""
SHOWN = 12


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that a person should look at."""

    kind: str
    """``bad`` or ``warn``."""
    text: str
    path: str


@page.get("/")
def show(view: View) -> Response:
    """All of it, or what changes each second."""
    state = view.site.sampler.state()
    queues = sorted(state.queues.values(), key=lambda one: (-one.stats.backlog, one.stats.queue))
    template = "overview_live.html" if view.part == "live" else "overview.html"
    return view.render(
        template,
        state=state,
        moment=state.moments[-1] if state.moments else None,
        queues=queues[:SHOWN],
        left_out=max(len(queues) - SHOWN, 0),
        attention=attention(state),
        running=sum(one.stats.workers for one in queues),
    )


def attention(state: State) -> list[Attention]:
    """What is not as it should be, the worst first."""
    found = [item for sample in state.queues.values() for item in _of_queue(sample)]
    return sorted(found, key=lambda item: item.kind)[:6]


def _of_queue(sample: QueueSample) -> list[Attention]:
    stats, path = sample.stats, f"/queues/{sample.stats.queue}"
    found = []
    if stats.lag and not stats.workers and not stats.paused and stats.needs_workers:
        found.append(
            Attention("bad", f"{stats.queue}: {number(stats.lag)} messages wait, and no worker serves it", path)
        )
    elif stats.oldest_age is not None and stats.oldest_age > OLD and not stats.paused:
        found.append(Attention("warn", f"{stats.queue}: the oldest message waits for {age(stats.oldest_age)}", path))
    if stats.paused:
        found.append(Attention("warn", f"{stats.queue} is paused, with {number(stats.backlog)} messages", path))
    if sample.failures > 0.1:
        found.append(Attention("bad", f"{stats.queue}: {sample.failures * 60:.0f} failures a minute", path))
    return found
