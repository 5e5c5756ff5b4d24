"""A browser without a window, and who may use the dashboards of the tests."""

from __future__ import annotations

from typing import Any

from support.asgi import Answer, ask
from taskq.dashboard.access import Credential, Role

OPERATOR, VIEWER = "operators-secret-1", "viewers-secret-22"
CREDENTIALS = (Credential("olga", Role.OPERATOR, OPERATOR), Credential("vera", Role.VIEWER, VIEWER))


class Browser:
    """Keeps cookies and sends forms with their token, as a browser does."""

    def __init__(self, site: Any) -> None:
        self.site = site
        self.cookies: dict[str, str] = {}

    def get(self, path: str, **more: Any) -> Answer:
        return self._ask("GET", path, **more)

    def post(self, path: str, form: dict[str, str] | None = None, *, token: str | None = None, **more: Any) -> Answer:
        """Send a form, by default with the token that the pages of this browser have."""
        given = dict(form or {})
        given["csrf"] = self.token() if token is None else token
        return self._ask("POST", path, form=given, **more)

    def token(self) -> str:
        """The token in a page."""
        page = self.get("/login").text
        if 'name="csrf" value="' not in page:  # signed in: it leads on
            page = self.get("/queues").text
        return page.partition('name="csrf" value="')[2].partition('"')[0]

    def sign_in(self, secret: str) -> Answer:
        return self.post("/login", {"secret": secret})

    def _ask(self, method: str, path: str, **more: Any) -> Answer:
        answer = ask(self.site, method, path, cookies=self.cookies, **more)
        self.cookies |= answer.cookies
        return answer
