"""Dead letters: by kind, one by one with their evidence; replay and purge, of one or of many."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from taskq.client.dlq import DeadLetter, Where
from taskq.dashboard import shown
from taskq.dashboard.render import number
from taskq.dashboard.routing import NotFoundError, Page
from taskq.dashboard.view import View

page = Page("dlq", "Dead letters", "/dlq")

SHOWN = 50
SCAN = 2000
"""Dead letters that one look through a filter goes through."""
SUGGESTED = 200
"""Groups whose tasks and errors the filters suggest."""
FILTERS = ("task", "error", "text", "fingerprint")


@page.get("/dlq")
def index(view: View) -> Response:
    """What failed for good, by kind."""
    queues = view.site.queues()
    queue = only(view.query("queue"), queues)
    groups = view.site.app.dlq.groups(queue or None)
    total = sum(group.count for group in groups)
    answer = view.render(
        "dlq_rows.html" if view.part == "rows" else "dlq.html",
        groups=groups[:200],
        total=total,
        left_out=len(groups[200:]),
        runs=view.site.app.dlq.runs(queue or None, limit=10),
        queue=queue,
        queues=queues,
    )
    return view.filtered(answer, "/dlq", queue=queue)


@page.get("/dlq/letters")
def letters(view: View) -> Response:
    """The dead letters that are meant, the newest first."""
    queues = view.site.queues()
    queue = only(view.query("queue"), queues)
    given = {name: view.query(name) for name in FILTERS}
    found = view.site.app.dlq.page(
        queue or None, limit=SHOWN, after=view.query("after") or None, newest_first=True, scan=SCAN, **where(given)
    )
    template = "letters_rows.html" if view.part == "rows" else "letters.html"
    rows = [shown.of_letter(view.site.app, letter) for letter in found.letters]
    if given["text"]:  # what is not shown cannot be searched for
        rows = [row for row in rows if row.shows(given["text"])]
    groups = [] if view.part else view.site.app.dlq.groups(queue or None)[:SUGGESTED]
    answer = view.render(template, rows=rows, found=found, queue=queue, queues=queues, where=given, groups=groups)
    return view.filtered(answer, "/dlq/letters", queue=queue, **given)


@page.get("/dlq/letters/{queue:path}/{entry}")
def detail(view: View) -> Response:
    """One dead letter."""
    letter = find_letter(view)
    return view.render("letter.html", shown=shown.of_letter(view.site.app, letter), letter=letter)


@page.post("/dlq/letter/replay/{queue:path}/{entry}")
def replay(view: View) -> Response:
    """Put it back into its queue."""
    letter = find_letter(view)
    moved = view.site.app.dlq.replay([letter.entry], queue=letter.queue, actor=view.who.name)
    if not moved:
        return view.redirect("/dlq/letters", "Nothing was replayed: it is gone, or is not a message", bad=True)
    return view.redirect(f"/messages/{letter.task_id}", "It is back in its queue", queue=letter.queue)


@page.post("/dlq/letter/purge/{queue:path}/{entry}")
def purge(view: View) -> Response:
    """Delete it for good."""
    letter = find_letter(view)
    gone = view.site.app.dlq.purge([letter.entry], queue=letter.queue, actor=view.who.name)
    return view.redirect("/dlq/letters", f"{number(gone)} dead letter deleted", queue=letter.queue)


def find_letter(view: View) -> DeadLetter:
    """The dead letter that the address names.

    Raises:
        NotFoundError: it is not there.
    """
    queue, entry = view.path("queue"), view.path("entry")
    ms, _, sequence = entry.partition("-")
    found = None
    if queue in view.site.queues() and ms.isdecimal() and sequence.isdecimal() and len(entry) < 42:
        found = view.site.app.dlq.get(entry, queue)
    if found is None:
        raise NotFoundError("This dead letter is gone: replayed, or purged.")
    return found


def only(name: str, queues: list[str]) -> str:
    """*name* if it is one of *queues*, else nothing."""
    return name if name in queues else ""


def where(given: dict[str, str]) -> Where:
    """The fields that were filled in, as a choice of dead letters."""
    chosen: Any = {name: value for name, value in given.items() if value}
    found: Where = chosen
    return found
