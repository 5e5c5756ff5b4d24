"""Dead letters: by kind, one by one with their evidence; replay and purge, of one or of many."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from taskq.config import check_name
from taskq.dashboard import shown
from taskq.dashboard.actions import record
from taskq.dashboard.render import number
from taskq.dashboard.routing import NotFoundError, Page
from taskq.dashboard.view import View
from taskq.dlq import DeadLetter, Where

page = Page("dlq", "Dead letters", "/dlq")

SHOWN = 50
SCAN = 4000
"""Dead letters that one look through a filter goes through."""
FILTERS = ("task", "error", "text", "fingerprint")


@page.get("/dlq")
def index(view: View) -> Response:
    """What failed for good, by kind."""
    queues = view.site.queues()
    queue = _queue(view.query("queue"), queues)
    groups = view.site.app.dlq.groups(queue or None)
    total = sum(group.count for group in groups)
    return view.render(
        "dlq.html", groups=groups[:200], total=total, left_out=len(groups[200:]), queue=queue, queues=queues
    )


@page.get("/dlq/letters")
def letters(view: View) -> Response:
    """The dead letters that are meant, the newest first."""
    queues = view.site.queues()
    queue = _queue(view.query("queue"), queues)
    given = {name: view.query(name) for name in FILTERS}
    found = view.site.app.dlq.page(
        queue or None, limit=SHOWN, after=view.query("after") or None, newest_first=True, scan=SCAN, **_where(given)
    )
    template = "letters_rows.html" if view.part == "rows" else "letters.html"
    rows = [shown.of_letter(view.site.app, letter) for letter in found.letters]
    return view.render(template, rows=rows, found=found, queue=queue, queues=queues, where=given)


@page.get("/dlq/letters/{queue}/{entry}")
def detail(view: View) -> Response:
    """One dead letter."""
    letter = _letter(view)
    return view.render("letter.html", shown=shown.of_letter(view.site.app, letter), letter=letter)


@page.post("/dlq/letters/{queue}/{entry}/replay")
def replay(view: View) -> Response:
    """Put it back into its queue."""
    letter = _letter(view)
    moved = view.site.app.dlq.replay([letter.entry], queue=letter.queue)
    record(view, "replay", queue=letter.queue, target=letter.task_id, count=moved)
    if not moved:
        return view.redirect("/dlq/letters", "Nothing was replayed: it is gone, or is no message", bad=True)
    return view.redirect(f"/messages/{letter.task_id}", "It is back in its queue", queue=letter.queue)


@page.post("/dlq/letters/{queue}/{entry}/purge")
def purge(view: View) -> Response:
    """Delete it for good."""
    letter = _letter(view)
    gone = view.site.app.dlq.purge([letter.entry], queue=letter.queue)
    record(view, "purge dead letters", queue=letter.queue, target=letter.task_id or letter.entry, count=gone)
    return view.redirect("/dlq/letters", f"{number(gone)} dead letter deleted", queue=letter.queue)


def _letter(view: View) -> DeadLetter:
    queue, entry = check_name(view.path("queue"), "a queue's name"), view.path("entry")
    ms, _, sequence = entry.partition("-")
    found = None
    if ms.isdecimal() and sequence.isdecimal() and len(entry) < 42:
        found = view.site.app.dlq.get(entry, queue)
    if found is None:
        raise NotFoundError("This dead letter is gone: replayed, or purged.")
    return found


def _queue(name: str, queues: list[str]) -> str:
    return name if name in queues else ""


def _where(given: dict[str, str]) -> Where:
    chosen: Any = {name: value for name, value in given.items() if value}
    where: Where = chosen
    return where
