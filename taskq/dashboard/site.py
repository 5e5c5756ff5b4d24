"""One dashboard: the app it shows, who may use it, and what its pages share."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from taskq.client.app import TaskQ
from taskq.dashboard import guard
from taskq.dashboard.access import REFUSED, Access, Credential, Role
from taskq.dashboard.attempts import WINDOW
from taskq.dashboard.cookies import BROWSER, NOTE, clear_cookie, set_cookie
from taskq.dashboard.jobs import Jobs
from taskq.dashboard.render import Templates
from taskq.dashboard.routing import Endpoint, Group, NotFoundError
from taskq.dashboard.sampler import Sampler
from taskq.dashboard.view import View
from taskq.dashboard.watch import Watch
from taskq.errors import BrokerError, TaskqError

logger = logging.getLogger("taskq.dashboard")

TOO_MANY = "Too many wrong passwords. Wait a minute."


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a dashboard behaves."""

    credentials: Sequence[Credential] = ()
    """Access control; empty: everybody, as an operator. See :func:`taskq.dashboard.access.load_credentials`."""
    read_only: bool = False
    """Nobody can change anything."""
    allowed_hosts: Sequence[str] = ()
    """Host names besides localhost and addresses in numbers; ``*``: all."""
    trusted_proxies: Sequence[str] = ()
    """Addresses and networks of the proxies in front of it: who comes through them is known by X-Forwarded-For, and
    the scheme by X-Forwarded-Proto. From anybody else these headers mean nothing."""
    session_key: bytes | None = None
    """Signs sessions. None: random, so that sessions end with the process. Several processes need the same."""


class Site:
    """What all pages of one dashboard share.

    Args:
        app: the app that is shown.
        options: see :class:`Options`.
        navigation: the pages that lead everywhere, in groups.
    """

    def __init__(self, app: TaskQ, options: Options, navigation: Sequence[Group] = ()) -> None:
        self.app = app
        self.options = options
        self.navigation = navigation
        self.access = Access(options.credentials, options.session_key)
        self.templates = Templates()
        self.sampler = Sampler(app)
        self.watch = Watch(app)
        self.jobs = Jobs()

    def queues(self) -> list[str]:
        """The names of the queues, at most a few seconds old."""
        return self.sampler.names()

    async def answer(self, request: Request, endpoint: Endpoint) -> Response:
        """Check the request and have its endpoint answer."""
        browser = request.cookies.get(BROWSER, "")
        new_browser = not browser
        browser = browser or secrets.token_urlsafe(16)
        token = guard.csrf_token(request, self.access, browser)
        who = guard.identify(request, self.access)
        view = View(request, self, endpoint, who, token, {})
        response = await self._answer(view)
        if new_browser:
            set_cookie(response, request, BROWSER, browser)
        if NOTE in request.cookies and response.status_code == 200 and not view.part:
            clear_cookie(response, request, NOTE)
        return response

    async def _answer(self, view: View) -> Response:
        request, endpoint = view.request, view.endpoint
        try:
            if endpoint.method == "POST":
                guard.check_origin(request)
            if view.who.role < endpoint.role:
                return self._turn_away(view)
            if endpoint.method == "POST":
                view.form = await guard.read_form(request)
                given = request.headers.get("x-csrf-token", "") or view.sent("csrf")
                guard.check_token(request, self.access, view.who, given)
                if self.options.read_only and endpoint.role >= Role.OPERATOR:
                    raise guard.ForbiddenError("This dashboard is read-only.")
            return await run_in_threadpool(endpoint.handler, view)
        except guard.ForbiddenError as error:
            return view.render("problem.html", 403, title="Refused", text=str(error))
        except guard.TooLargeError:
            return view.render("problem.html", 413, title="Too large", text="The form has too much in it.")
        except guard.TooSlowError:
            return view.render("problem.html", 408, title="Too slow", text="The form did not arrive. Send it again.")
        except NotFoundError as error:
            if request.method in ("GET", "HEAD") and view.below.endswith("/") and view.below.strip("/"):
                return view.lead_to(view.without_slash)
            return view.render("problem.html", 404, title="Not found", text=str(error))
        except BrokerError as error:
            return view.render("problem.html", 503, title="Redis does not answer", text=str(error))
        except TaskqError as error:
            return view.render("problem.html", 400, title="That did not work", text=str(error))
        except Exception:
            logger.exception("the dashboard's %s %s failed", endpoint.method, endpoint.path)
            return view.render("problem.html", 500, title="Something broke", text="The dashboard's log has more.")

    def _turn_away(self, view: View) -> Response:
        if view.who.role > Role.NOBODY:
            text = "You may look at everything, but not change it: that takes an operator."
            return view.render("problem.html", 403, title="Operators only", text=text)
        wants_page = (
            view.who is not REFUSED
            and view.endpoint.method == "GET"
            and "text/html" in view.request.headers.get("accept", "")
        )
        if wants_page and "hx-request" not in view.request.headers:
            return view.redirect("/login", next=view.here)
        text = TOO_MANY if view.who is REFUSED else "This dashboard needs a password."
        response = view.render("problem.html", 401, title="Sign in", text=text)
        if view.who is REFUSED:
            response.headers["Retry-After"] = f"{WINDOW:.0f}"
        response.headers["WWW-Authenticate"] = "Bearer"
        return response

    def note(self, request: Request) -> tuple[str, bool]:
        """What the last action left to say, and whether it is about a failure; forged notes say nothing."""
        signature, _, text = request.cookies.get(NOTE, "").partition(".")
        if not text or not self.access.signed("note", text, signature):
            return "", False
        note = unquote(text)
        return note[1:], note[0] == "!"
