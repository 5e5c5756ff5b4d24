"""What people do with the dashboard is written down in the audit trail, before it is done."""

from __future__ import annotations

from taskq.dashboard.view import View


def record(view: View, action: str, target: str, **detail: object) -> None:
    """Write down that the one who makes this request does *action* to *target*.

    Raises:
        BrokerError: Redis did not accept it; then the action is not done either.
    """
    view.site.app.audit.record(view.who.name, action, target, detail)
