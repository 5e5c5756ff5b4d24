"""The dashboard as an ASGI application, to be served alone or mounted in another one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from taskq.client.app import TaskQ
from taskq.dashboard.access import Role
from taskq.dashboard.guard import Shield
from taskq.dashboard.pages import NAVIGATION, PAGES
from taskq.dashboard.proxies import Proxies
from taskq.dashboard.render import STATIC
from taskq.dashboard.routing import Endpoint, NotFoundError, Page
from taskq.dashboard.site import Options, Site
from taskq.dashboard.view import View

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES = {str(path.relative_to(STATIC)): path for path in sorted(STATIC.rglob("*")) if path.suffix in _TYPES}


def _missing(_: View) -> Response:
    raise NotFoundError("There is no page at this address.")


MISSING = Endpoint("/", "GET", Role.NOBODY, _missing, Page("missing"))
"""Answers for every address that leads nowhere."""


class Dashboard(Shield):
    """A dashboard as an ASGI application; made by :func:`app`."""

    def __init__(self, site: Site) -> None:
        async def refused(request: Request, error: Exception) -> Response:
            assert isinstance(error, HTTPException)
            wants_page = "text/html" in request.headers.get("accept", "") and "/static/" not in request.url.path
            if error.status_code == 404 and wants_page:
                return await site.answer(request, MISSING)
            return PlainTextResponse(f"{error.detail}\n", error.status_code, headers=error.headers)

        starlette = Starlette(routes=list(_routes(site)), exception_handlers={HTTPException: refused})
        # the router's own way with a slash at the end would take "/queues/" for the page of a queue without a name
        starlette.router.redirect_slashes = False
        super().__init__(starlette, site.options.allowed_hosts, Proxies(site.options.trusted_proxies))
        self._site = site

    def close(self) -> None:
        """End its thread. The app's connections are closed with the app."""
        self._site.sampler.close()


def app(taskq: TaskQ, **options: Any) -> Dashboard:
    """The dashboard of *taskq*.

    Args:
        taskq: what to show; its tasks need not be loaded.
        **options: the fields of :class:`taskq.dashboard.site.Options`.

    Raises:
        ConfigError: a trusted proxy is not an address or network.

    Without ``credentials`` it lets everybody in: mount it behind your own sign-in, or give it some::

        api.mount("/taskq", taskq.dashboard.asgi.app(shop, credentials=load_credentials(os.environ)))
    """
    return Dashboard(Site(taskq, Options(**options), NAVIGATION))


def endpoints() -> list[Endpoint]:
    """Every endpoint of every page."""
    return [endpoint for page in PAGES for endpoint in page.endpoints]


def _routes(site: Site) -> Iterator[BaseRoute]:
    yield Route("/static/{path:path}", _static, methods=["GET"])
    yield Route("/health", _health, methods=["GET"])
    for endpoint in endpoints():
        yield Route(endpoint.path, _bind(site, endpoint), methods=[endpoint.method])


def _bind(site: Site, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return await site.answer(request, endpoint)

    return answer


async def _static(request: Request) -> Response:
    path = FILES.get(request.path_params["path"])
    if path is None:
        raise HTTPException(404)
    headers = {"cache-control": "public, max-age=31536000, immutable"}
    return FileResponse(path, media_type=_TYPES[path.suffix], headers=headers)


async def _health(_: Request) -> Response:
    return PlainTextResponse("live\n")
