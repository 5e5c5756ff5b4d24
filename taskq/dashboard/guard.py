"""What stands before every handler: who is it, may they, and does the request come from our own pages?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskq.dashboard.access import LOCAL, NOBODY, REFUSED, Access, Identity, TooManyAttemptsError
from taskq.dashboard.cookies import BROWSER, SESSION
from taskq.dashboard.proxies import Proxies
from taskq.observe.serving import FOREIGN_HOST, host_is_allowed

MAX_FORM_BYTES = 1 << 20
BODY_SECONDS = 20.0
"""Within which a form has to be there."""
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class ForbiddenError(Exception):
    """The request is refused; the text says why."""


class TooLargeError(Exception):
    """A form beyond :data:`MAX_FORM_BYTES`."""


class TooSlowError(Exception):
    """A form that was not there within :data:`BODY_SECONDS`, or whose sender went away."""


class Shield:
    """Around the whole dashboard: refuses foreign host names, and sets the security headers on every answer.

    Args:
        app: what is protected.
        hosts: names that the dashboard may be reached by, besides localhost and addresses in numbers. A name that
            an attacker points at 127.0.0.1 (DNS rebinding) is none of these. ``*`` allows every name.
        proxies: those that stand before it.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], proxies: Proxies) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts}
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        scope = self._proxies.seen(scope)
        if host_is_allowed(Headers(scope=scope).get("host", ""), self._hosts):
            await self._app(scope, receive, guarded)
        else:
            text = FOREIGN_HOST.format("allowed_hosts= (of the command taskq dashboard: --allowed-host)")
            await PlainTextResponse(text, 421)(scope, receive, guarded)


def identify(request: Request, access: Access) -> Identity:
    """Who makes the request: by Authorization header, by session cookie, or anybody where access is open."""
    if access.open:
        return LOCAL
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        try:
            found = access.by_secret(secret.strip(), client_address(request))
        except TooManyAttemptsError:
            return REFUSED
        return NOBODY if found is None else Identity(found.name, found.role, by_header=True)
    cookie = request.cookies.get(SESSION, "")
    return access.by_session(cookie) if cookie else NOBODY


def client_address(request: Request) -> str:
    """Where the request comes from."""
    return request.client.host if request.client else ""


def csrf_token(request: Request, access: Access, browser: str) -> str:
    """The token of one browser and session."""
    return access.sign("csrf", f"{browser}\n{request.cookies.get(SESSION, '')}")


def check_origin(request: Request) -> None:
    """Refuse what another site made the browser send.

    Raises:
        ForbiddenError: Sec-Fetch-Site or Origin says so.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        raise ForbiddenError("This came from another site.")
    origin = request.headers.get("origin")
    if origin is not None and origin.lower() != f"{request.url.scheme}://{request.headers.get('host', '')}".lower():
        raise ForbiddenError(
            "This came from another site. Behind a proxy: have it pass on Host and set X-Forwarded-Proto, and name "
            "it with --trusted-proxy (in code: trusted_proxies=)."
        )


def check_token(request: Request, access: Access, who: Identity, given: str) -> None:
    """Refuse a form that was not made for this browser. Who is known by a header needs none.

    Raises:
        ForbiddenError: the token is missing or wrong.
    """
    if who.by_header:
        return
    browser = request.cookies.get(BROWSER, "")
    if not browser or not access.signed("csrf", f"{browser}\n{request.cookies.get(SESSION, '')}", given):
        raise ForbiddenError("This form is out of date. Go back, load the page again, and repeat.")


async def read_form(request: Request) -> dict[str, list[str]]:
    """The fields of a form; unlike Starlette's own, without another package, and bounded.

    Raises:
        TooLargeError: more than :data:`MAX_FORM_BYTES`.
        TooSlowError: it did not come, or not in time.
    """
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_FORM_BYTES:
                    raise TooLargeError
    except (TimeoutError, ClientDisconnect):
        raise TooSlowError from None
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        return {}
    try:
        return parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=5000)
    except ValueError:
        raise TooLargeError from None
