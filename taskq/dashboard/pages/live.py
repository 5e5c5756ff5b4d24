"""Numbers for the charts: those of the last minutes, then one more each second as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from taskq.dashboard.read import queues as read
from taskq.dashboard.routing import NotFoundError, Page
from taskq.dashboard.sampler import Moment, summary
from taskq.dashboard.view import View

page = Page("live")

_LOOK = 0.05
"""Seconds between two looks into the sampler's memory."""
_LONGEST = 3600.0
"""Seconds after which an event stream ends; browsers open it again."""
COLUMNS = ("at", "rate", "failures", "retries", "lag", "pending", "delayed", "dead", "wait")


@page.get("/live/past")
def past(view: View) -> Response:
    """The last two hours per minute, then the last minutes per second: a list for each of :data:`COLUMNS`."""
    sampler = view.site.sampler
    state = sampler.state()
    queue = view.query("queue")
    if queue and queue not in state.queues:
        raise NotFoundError(f"There is no queue {queue}.")
    kept = [] if queue else list(state.moments)
    first = kept[0].at if kept else time.time()
    rows = [
        [start + 60, s.ended / 60, s.failed / 60, s.retried / 60, None, None, None, None,
         s.wait_ms / s.waits / 1000 if s.waits else None]
        for start, s in read.history(view.site.app, [queue] if queue else list(state.queues))
        if start + 60 < first
    ]  # fmt: skip
    columns = [list(column) for column in zip(*rows, *map(_numbers, kept), strict=True)] or [[] for _ in COLUMNS]
    return view.json(dict(zip(COLUMNS, columns, strict=True)))


@page.get("/live")
def stream(view: View) -> Response:
    """One event for each look of the sampler."""
    return StreamingResponse(_events(view), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _events(view: View) -> AsyncIterator[str]:
    sampler, queue = view.site.sampler, view.query("queue")
    yield "retry: 2000\n\n"
    version = -1
    for _ in range(int(_LONGEST / _LOOK)):
        sampler.touch([queue] if queue else ())
        if sampler.version == version:
            await asyncio.sleep(_LOOK)
            continue
        version, state = sampler.version, sampler.latest
        if queue and queue in state.queues:
            yield _event(summary([state.queues[queue]]))
        elif state.error or not state.moments:
            yield f"event: trouble\ndata: {json.dumps(state.error)}\n\n"
        else:
            yield _event(state.moments[-1])


def _event(moment: Moment) -> str:
    return f"event: moment\ndata: {json.dumps(dict(zip(COLUMNS, _numbers(moment), strict=True)))}\n\n"


def _numbers(moment: Moment) -> list[float | None]:
    return [getattr(moment, name) for name in COLUMNS]
