"""Messages: queued, running, delayed and newest; one of them with all that is known; cancel and send again."""

from __future__ import annotations

from starlette.responses import Response

from taskq.broker.views.ended import EndedMessage, read_ended
from taskq.broker.views.inspect import QueueStats
from taskq.broker.views.messages import DEAD
from taskq.broker.views.workers import read_last_words
from taskq.client.dlq import DeadLetter
from taskq.dashboard import shown
from taskq.dashboard.actions import record
from taskq.dashboard.read import messages as read
from taskq.dashboard.routing import NotFoundError, Page
from taskq.dashboard.view import View
from taskq.errors import ConfigError
from taskq.values.message import TaskState, check_id

page = Page("messages", "Messages", "/messages")

TABS = {"queued": "Queued", "running": "Running", "delayed": "Delayed", "newest": "Newest", "ended": "Ended"}
"""The last one is a page of its own."""

MOST_QUEUES = 10
NEWEST = 500
"""Dead letters that are looked at for that of one message."""


@page.get("/messages")
def index(view: View) -> Response:
    """The messages of one queue in one state; or the one whose id is searched for."""
    queues = view.site.queues()
    queue, tab, text = view.query("queue"), view.query("state", "queued"), view.query("q")
    if _is_id(text) and (trace := read.trace(view.site.app, text, queues)) is not None:
        return view.redirect(f"/messages/{text}", queue=trace.queue)
    if not queue or queue not in queues:
        queue = _fullest(view, queues)
    tab = tab if tab in read.VIEWS else "queued"
    wanted = read.Wanted(view.query("task"), text)
    found = read.look(view.site.app, queue, tab, wanted, view.query("after")) if queue else read.Look()
    rows = [shown.of_message(view.site.app, message) for message in found.found]
    template = "messages_rows.html" if view.part == "rows" else "messages.html"
    kept = {"queue": queue, "task": wanted.task, "q": text, "outcome": view.query("outcome")}
    total = None if queue not in (known := view.site.sampler.state().queues) else _total(known[queue].stats, tab)
    answer = view.render(
        template, rows=rows, look=found, queue=queue, queues=queues, tab=tab, tabs=TABS, kept=kept, total=total
    )
    return view.filtered(answer, "/messages", state=tab, **kept)


@page.get("/messages/{task_id:path}")
def detail(view: View) -> Response:
    """One message."""
    task_id = _task_id(view)
    trace = read.trace(view.site.app, task_id, _where(view), read.number(view.query("at")), view.query("place"))
    if trace is None:
        # its outcome may have expired while its dead letter is there
        letter = _dead_letter(view, task_id, _where(view))
        if letter is not None:
            return view.redirect(f"/dlq/letters/{letter.queue}/{letter.entry}")
        raise NotFoundError("Message not found. It may have expired or was not kept, or is deep in its queue.")
    if trace.ending is None and trace.found is not None and trace.found.level == DEAD:
        return view.redirect(f"/dlq/letters/{trace.queue}/{trace.found.entry}")
    failed = trace.state is TaskState.FAILURE
    ended = _sampled(view, task_id, trace.queue) if trace.state.final else None
    app = view.site.app
    return view.render(
        "message.html",
        trace=trace,
        message=shown.of_message(view.site.app, trace.found) if trace.found else None,
        ending=shown.of_ending(trace.ending) if trace.ending else None,
        letter=_dead_letter(view, task_id, [trace.queue]) if failed else None,
        ended=ended,
        worker_known=ended is not None and read_last_words(app.sync_broker.execute, app.keys, ended.worker) is not None,
    )


@page.post("/cancel/{task_id:path}")
def cancel(view: View) -> Response:
    """Revoke it: it never starts, or is stopped."""
    task_id, queue = _task_id(view), view.sent("queue")
    if queue not in view.site.queues():
        raise NotFoundError("There is no such queue.")
    record(view, "message.cancel", task_id, queue=queue)
    stopped = view.site.app.result(task_id, queue=queue).revoke()
    note = "It is revoked: it will not start, or is being stopped." if stopped else "It had ended before."
    return view.redirect(f"/messages/{task_id}", note, bad=not stopped, queue=queue)


def _dead_letter(view: View, task_id: str, queues: list[str]) -> DeadLetter | None:
    """The dead letter of a message, if it is one of the newest of its queue."""
    for queue in queues[:MOST_QUEUES]:
        newest = view.site.app.dlq.page(queue, limit=NEWEST, newest_first=True)
        found = next((letter for letter in newest.letters if letter.task_id == task_id), None)
        if found is not None:
            return found
    return None


def _sampled(view: View, task_id: str, queue: str) -> EndedMessage | None:
    """What the sample of ended messages has of it."""
    app = view.site.app
    rows = read_ended(app.sync_broker.pipeline, [app.keys.queue(queue)])
    return next((row for _, row in rows if row.id == task_id), None)


def _task_id(view: View) -> str:
    try:
        return check_id(view.path("task_id"))
    except ConfigError as error:
        raise NotFoundError(str(error)) from error


def _where(view: View) -> list[str]:
    queue, queues = view.query("queue"), view.site.queues()
    return [queue] if queue in queues else queues


def _total(stats: QueueStats, tab: str) -> int:
    """About how many messages there are to look through."""
    return {"queued": stats.lag, "running": stats.pending, "delayed": stats.delayed}.get(tab, stats.backlog)


def _is_id(text: str) -> bool:
    return 8 <= len(text) <= 200 and text.isprintable() and " " not in text


def _fullest(view: View, queues: list[str]) -> str:
    """The queue with most in it, to begin with."""
    samples = view.site.sampler.state().queues.values()
    best = max(samples, key=lambda one: one.stats.backlog + one.stats.delayed, default=None)
    return best.stats.queue if best else (queues[0] if queues else "")
