"""What people do with the dashboard is written down."""

from __future__ import annotations

import logging

from taskq.dashboard.view import View

logger = logging.getLogger("taskq.dashboard.audit")


def record(view: View, action: str, **details: object) -> None:
    """Write down who did what."""
    text = ", ".join(f"{name} {value}" for name, value in details.items())
    logger.info("%s: %s (%s)", view.who.name, action, text)
