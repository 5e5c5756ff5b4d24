"""The cookies of the dashboard: their names and how they are set."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

SESSION = "taskq_session"
BROWSER = "taskq_browser"
"""A random text that ties forms to the browser they were made for."""
KNOWN = "taskq_known"
"""Says that somebody has signed in with this browser, so that guesses of others do not lock it out."""
NOTE = "taskq_note"
THEME = "taskq_theme"


def set_cookie(response: Response, request: Request, name: str, value: str, seconds: int | None = None) -> None:
    """A cookie for this site alone, that no script can read; *seconds* None: until the browser ends."""
    response.set_cookie(
        name,
        value,
        max_age=seconds,
        path=_path(request),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def clear_cookie(response: Response, request: Request, name: str) -> None:
    """Have the browser forget a cookie."""
    response.delete_cookie(name, path=_path(request), httponly=True, samesite="strict")


def _path(request: Request) -> str:
    return str(request.scope.get("root_path", "")) or "/"
