"""Signing in and out, and the choice of colours."""

from __future__ import annotations

from starlette.responses import Response

from taskq.dashboard.access import KNOWN_SECONDS, SESSION_SECONDS, Role, TooManyAttemptsError
from taskq.dashboard.attempts import WINDOW
from taskq.dashboard.cookies import KNOWN, SESSION, THEME, clear_cookie, set_cookie
from taskq.dashboard.guard import client_address
from taskq.dashboard.render import THEMES
from taskq.dashboard.routing import Page
from taskq.dashboard.site import TOO_MANY
from taskq.dashboard.view import View

page = Page("login")

_YEAR = 365 * 86400


@page.get("/login", Role.NOBODY)
def form(view: View) -> Response:
    """Ask for the password."""
    if view.who.role > Role.NOBODY:
        return view.lead_to(view.query("next"))
    return view.render("login.html", next=view.query("next"), error="")


@page.post("/login", Role.NOBODY)
def sign_in(view: View) -> Response:
    """Check it, and begin a session."""
    access, request = view.site.access, view.request
    known = request.cookies.get(KNOWN, "")
    try:
        found = access.by_secret(view.sent("secret"), client_address(request), known)
    except TooManyAttemptsError:
        response = view.render("login.html", 429, next=view.sent("next"), error=TOO_MANY)
        response.headers["Retry-After"] = f"{WINDOW:.0f}"
        return response
    if found is None:
        return view.render("login.html", 401, next=view.sent("next"), error="Wrong password")
    response = view.lead_to(view.sent("next"))
    set_cookie(response, request, SESSION, access.session(found), SESSION_SECONDS)
    set_cookie(response, request, KNOWN, access.known_browser(found), KNOWN_SECONDS)
    return response


@page.post("/logout", Role.VIEWER)
def sign_out(view: View) -> Response:
    """End the session."""
    view.site.access.end(view.request.cookies.get(SESSION, ""))
    response = view.redirect("/login")
    clear_cookie(response, view.request, SESSION)
    return response


@page.post("/theme", Role.NOBODY)
def theme(view: View) -> Response:
    """Light, dark, or as the system says; remembered by the browser."""
    response = view.lead_to(view.referrer or view.sent("next"))  # filters may have changed since the page was made
    chosen = view.sent("theme")
    set_cookie(response, view.request, THEME, chosen if chosen in THEMES else "auto", _YEAR)
    return response
