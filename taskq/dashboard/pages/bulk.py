"""Replay and purge of many dead letters, and the editing of one."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from taskq.dashboard import shown
from taskq.dashboard.access import Role
from taskq.dashboard.editing import from_text, to_text
from taskq.dashboard.jobs import Job, Progress, Work
from taskq.dashboard.pages.dlq import FILTERS, find_letter, only, where
from taskq.dashboard.routing import NotFoundError, Page
from taskq.dashboard.view import View
from taskq.errors import ConfigError, TaskqError
from taskq.values.config import is_fifo
from taskq.values.redaction import parameters

page = Page("dlq")

COUNTED = 5000
"""Dead letters that are looked at to say how many match a filter."""
ACTIONS = {"replay": "Replay", "purge": "Purge"}


@page.get("/dlq/bulk", Role.OPERATOR)
def ask(view: View) -> Response:
    """What would be done, to how many; and the button that does it."""
    action = view.query("action", "replay")
    if action not in ACTIONS:
        raise NotFoundError("Nothing of that kind can be done to dead letters.")
    queues = view.site.queues()
    queue = only(view.query("queue"), queues)
    given = {name: view.query(name) for name in FILTERS}
    return view.render(
        "bulk.html", action=action, verb=ACTIONS[action], queue=queue, given=given,
        targets=_targets(queue, queues), count=_count(view, queue or None, given),
    )  # fmt: skip


@page.post("/dlq/replay")
def replay(view: View) -> Response:
    """Put all that are meant back into their queues."""
    queue, given = _meant(view)
    rate = view.sent("rate").strip() or None
    to = view.sent("to") or None
    if to is not None and to not in _targets(queue or "", view.site.queues()):
        raise NotFoundError(f"Dead letters of {queue or 'all queues'} cannot go to {to}.")
    dlq, actor = view.site.app.dlq, view.who.name

    def work(progress: Progress) -> int:
        return dlq.replay(None, queue=queue, to=to, rate=rate, actor=actor, progress=progress, **where(given))

    return _begin(view, "Replay", queue, given, work)


@page.post("/dlq/purge")
def purge(view: View) -> Response:
    """Delete all that are meant for good; the form has the word typed, so that it is not a slip."""
    if view.sent("confirm").strip().lower() != "purge":
        return view.redirect("/dlq", "Nothing was purged: the word was not typed", bad=True)
    queue, given = _meant(view)
    dlq, actor = view.site.app.dlq, view.who.name

    def work(progress: Progress) -> int:
        return dlq.purge(None, queue=queue, actor=actor, progress=progress, **where(given))

    return _begin(view, "Purge", queue, given, work)


@page.get("/dlq/letter/edit/{queue:path}/{entry}", Role.OPERATOR)
def edit_form(view: View) -> Response:
    """The arguments, to be changed."""
    letter = find_letter(view)
    if letter.message is None:
        raise ConfigError("this dead letter is not a message: it has no arguments to edit")
    text = to_text(letter.message, parameters(view.site.app.tasks.get(letter.task)))
    return view.render("edit.html", letter=letter, text=text, error="")


@page.post("/dlq/letter/edit/{queue:path}/{entry}")
def edit(view: View) -> Response:
    """Replay it with other arguments."""
    letter = find_letter(view)
    if letter.message is None:
        raise ConfigError("this dead letter is not a message: it has no arguments to edit")
    text = view.sent("arguments")
    try:
        args, kwargs = from_text(text, letter.message)
        view.site.app.dlq.edit(letter.entry, args, kwargs, queue=letter.queue, actor=view.who.name)
    except TaskqError as error:
        return view.render("edit.html", 400, letter=letter, text=text, error=str(error))
    note = "It is back in its queue, with the new arguments"
    return view.redirect(f"/messages/{letter.task_id}", note, queue=letter.queue)


def _meant(view: View) -> tuple[str | None, dict[str, str]]:
    queue = only(view.sent("queue"), view.site.queues()) or None
    if view.sent("queue") and queue is None:
        raise NotFoundError("There is no such queue.")
    return queue, {name: view.sent(name).strip() for name in FILTERS}


def _targets(queue: str, queues: list[str]) -> list[str]:
    """Where dead letters of *queue* can go instead: calls of tasks to queues of tasks, items of FIFOs to FIFOs."""
    if is_fifo(queue):
        return [name for name in queues if is_fifo(name) and name != queue]
    return [name for name in queues if not is_fifo(name) and "/" not in name and name != queue]


@dataclass(frozen=True, slots=True)
class Count:
    """How many dead letters are meant."""

    found: int
    looked_at: int
    total: int
    """Of the queues asked for."""

    @property
    def exact(self) -> bool:
        """Whether all were looked at."""
        return self.looked_at >= self.total


def _count(view: View, queue: str | None, given: dict[str, str]) -> Count:
    """How many are meant: from the index of groups where that tells, else among the first :data:`COUNTED`."""
    dlq, fingerprint = view.site.app.dlq, given["fingerprint"]
    if not (given["text"] or given["task"] or given["error"]):
        groups = dlq.groups(queue)
        found = sum(group.count for group in groups if fingerprint in ("", group.fingerprint))
        return Count(found, 0, 0)
    page = dlq.page(queue, limit=COUNTED, scan=COUNTED, **where(given))
    letters = (shown.of_letter(view.site.app, letter) for letter in page.letters)
    found = sum(1 for letter in letters if not given["text"] or letter.shows(given["text"]))
    return Count(found, page.total if page.next is None else page.scanned, page.total)


def _begin(view: View, verb: str, queue: str | None, given: dict[str, str], work: Work) -> Response:
    what = ", ".join(f"{name} {value}" for name, value in given.items() if value)
    title = f"{verb} of dead letters" + (f" of {queue}" if queue else "") + (f" ({what})" if what else "")
    count = _count(view, queue, given)
    job = Job(title, view.who.name, count.found if count.exact else 0, "/dlq")
    view.site.jobs.start(job, work)
    return view.redirect(f"/jobs/{job.id}")
