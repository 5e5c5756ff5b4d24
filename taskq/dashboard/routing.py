"""How a page says what it answers: a :class:`Page` collects endpoints, each with the role that it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.responses import Response

from taskq.dashboard.access import Role

if TYPE_CHECKING:
    from taskq.dashboard.view import View

Handler = Callable[["View"], Response]
"""Answers one request, on a thread of its own, so it may ask Redis."""


class NotFoundError(Exception):
    """What the address names is not there (any more)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path and method."""

    path: str
    method: str
    role: Role
    handler: Handler
    page: Page


@dataclass(frozen=True, slots=True)
class Group:
    """Pages that stand together in the navigation."""

    title: str
    pages: tuple[Page, ...]


class Page:
    """One page of the dashboard: its place in the navigation, and what it answers.

    Args:
        key: names the page in templates.
        title: shown in the navigation; empty for pages that are not in it.
        path: of its first endpoint.
    """

    def __init__(self, key: str, title: str = "", path: str = "") -> None:
        self.key = key
        self.title = title
        self.path = path
        self.endpoints: list[Endpoint] = []

    def get(self, path: str, role: Role = Role.VIEWER) -> Callable[[Handler], Handler]:
        """The decorated function shows *path*."""
        return self._add(path, "GET", role)

    def post(self, path: str, role: Role = Role.OPERATOR) -> Callable[[Handler], Handler]:
        """The decorated function acts on a form that was sent to *path*."""
        return self._add(path, "POST", role)

    def _add(self, path: str, method: str, role: Role) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            self.endpoints.append(Endpoint(path, method, role, handler, self))
            return handler

        return register
