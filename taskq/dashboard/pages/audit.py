"""The audit log: who did what, and when."""

from __future__ import annotations

from starlette.responses import Response

from taskq.dashboard.routing import Page
from taskq.dashboard.view import View
from taskq.values.redaction import redact

page = Page("audit", "Audit log", "/audit")

SHOWN = 100
ARGUMENTS = ("before", "after")
"""Details of an edit that are the arguments themselves, whose parameters' names are not known here."""


@page.get("/audit")
def index(view: View) -> Response:
    """The latest records, newest first."""
    after = view.query("after")
    ms, _, sequence = after.partition("-")
    before = after if ms.isdecimal() and sequence.isdecimal() and len(after) < 42 else None
    records = view.site.app.audit.read(SHOWN, before=before)
    rows = [(record, _detail(record.detail)) for record in records]
    return view.render("audit.html", rows=rows, next=records[-1].id if len(records) >= SHOWN else "")


def _detail(detail: object) -> list[tuple[str, str]]:
    shown = redact(detail) if isinstance(detail, dict) else {}
    return [(str(name), str(value)[:300]) for name, value in shown.items() if name not in ARGUMENTS and value != ""]
