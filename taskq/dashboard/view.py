"""What a handler gets: the request, who makes it, and ways to answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from taskq.dashboard.access import Identity, Role
from taskq.dashboard.cookies import NOTE, set_cookie

if TYPE_CHECKING:
    from taskq.dashboard.routing import Endpoint
    from taskq.dashboard.site import Site

SAFE = "/:@!,~"
FILTERS = "filters"
"""The id of the form with a page's filters."""
NOTE_LIMIT = 300
"""Characters of a note: it travels in a cookie."""


@dataclass(slots=True)
class View:
    """One request to one endpoint."""

    request: Request
    site: Site
    endpoint: Endpoint
    who: Identity
    csrf: str
    """The token that forms of this browser carry."""
    form: Mapping[str, list[str]]
    """What was sent, for POST."""

    @property
    def may_act(self) -> bool:
        """Whether buttons that change something are shown."""
        return self.who.role >= Role.OPERATOR and not self.site.options.read_only

    @property
    def part(self) -> str:
        """Which part of the page is asked for alone; empty for all of it."""
        return self.request.query_params.get("part", "") if "hx-request" in self.request.headers else ""

    @property
    def here(self) -> str:
        """The address of this page, below where the dashboard is mounted, with its filters."""
        return self._address(self.below)

    @property
    def below(self) -> str:
        """The path of this page, below where the dashboard is mounted."""
        return self._below(self.request.url.path)

    @property
    def without_slash(self) -> str:
        """As :attr:`here`, without slashes at the end."""
        return self._address(self.below.rstrip("/"))

    def _address(self, path: str) -> str:
        query = self.request.url.query if self.request.method == "GET" else ""
        return quote(path, safe=SAFE) + (f"?{query}" if query else "")

    @property
    def referrer(self) -> str:
        """As :attr:`here`, of the page whose form this is; empty where the browser does not say, or it is another's."""
        given = urlsplit(self.request.headers.get("referer", ""))
        if given.netloc != self.request.headers.get("host", ""):
            return ""
        path = self._below(given.path)
        return f"{path}?{given.query}" if given.query else path

    def _below(self, path: str) -> str:
        return path.removeprefix(str(self.request.scope.get("root_path", ""))) or "/"

    def path(self, name: str) -> str:
        """A parameter in the path."""
        return str(self.request.path_params[name])

    def query(self, name: str, default: str = "") -> str:
        """A parameter after the question mark."""
        return self.request.query_params.get(name, default).strip()

    def sent(self, name: str, default: str = "") -> str:
        """A field of the form."""
        return self.form.get(name, [default])[0]

    def url(self, path: str, **query: object) -> str:
        """The address of a page, below where the dashboard is mounted."""
        kept = {name: value for name, value in query.items() if value not in ("", None)}
        root = str(self.request.scope.get("root_path", ""))
        return root + quote(path, safe=SAFE) + (f"?{urlencode(kept)}" if kept else "")

    def render(self, template: str, status: int = 200, **values: Any) -> Response:
        """A page, or of it the part that was asked for."""
        text = self.site.templates.render(template, self, values)
        return HTMLResponse(text, status)

    def json(self, value: object) -> Response:
        """Data for a chart."""
        return Response(json.dumps(value, allow_nan=False), media_type="application/json")

    def filtered(self, response: Response, path: str, **query: object) -> Response:
        """*response* to a change of the filters, with the address that has them; as it is to other requests.

        What is typed replaces the address, each choice is a step that Back undoes.
        """
        headers, address = self.request.headers, self.url(path, **query)
        if headers.get("hx-trigger") == FILTERS and not headers.get("hx-current-url", "").endswith(address):
            response.headers["HX-Replace-Url" if "x-typed" in headers else "HX-Push-Url"] = address
        return response

    def redirect(self, path: str, note: str = "", *, bad: bool = False, **query: object) -> Response:
        """To another page, after an action; *note* is shown there once, as a failure if *bad*."""
        response = self._to(self.url(path, **query))
        if note:
            self.leave_note(response, note, bad=bad)
        return response

    def lead_to(self, here: str) -> Response:
        """To the page whose :attr:`here` that is; to the first one if it is not one of ours."""
        inside = here.startswith("/") and not here.startswith(("//", "/\\")) and here.isprintable()
        return self._to(str(self.request.scope.get("root_path", "")) + (here if inside else "/"))

    def _to(self, address: str) -> Response:
        if "hx-request" in self.request.headers:  # a plain redirect would put the whole page into a part of this one
            return Response(headers={"HX-Redirect": address})
        return RedirectResponse(address, 303)

    def leave_note(self, response: Response, note: str, *, bad: bool = False) -> None:
        """Show *note* on the next page that this browser opens."""
        text = quote(("!" if bad else "+") + note[:NOTE_LIMIT])
        set_cookie(response, self.request, NOTE, f"{self.site.access.sign('note', text)}.{text}", 60)
