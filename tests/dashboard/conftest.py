"""A dashboard with an operator and a viewer, and one that is open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from support.browser import CREDENTIALS, OPERATOR, Browser
from support.chromium import chromium
from support.process import Proc
from support.wait import wait_for_line

from taskq import TaskQ
from taskq.dashboard import asgi


@pytest.fixture
def make_site(app: TaskQ) -> Iterator[Callable[..., Any]]:
    """Make dashboards of ``app``: ``make_site(read_only=True)``; closed at the end."""
    with ExitStack() as sites:

        def make(**options: Any) -> Any:
            site = asgi.app(app, **options)
            sites.callback(site.close)
            return site

        yield make


@pytest.fixture
def open_site(make_site: Callable[..., Any]) -> Any:
    """A dashboard without passwords."""
    return make_site()


@pytest.fixture
def guarded_site(make_site: Callable[..., Any]) -> Any:
    """A dashboard for an operator and a viewer."""
    return make_site(credentials=CREDENTIALS)


@pytest.fixture
def browser() -> Callable[[Any], Browser]:
    """Make browsers."""
    return Browser


@pytest.fixture(scope="module")
def shared_browser() -> Iterator[Any]:
    """Chromium; skips where it is missing."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def dashboard(spawn: Callable[..., Proc], redis_url: str, namespace: str) -> str:
    """The address of a dashboard process with an operator."""
    env = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace, "TASKQ_DASHBOARD_PASSWORD": OPERATOR}
    process = spawn("-m", "taskq", "dashboard", "--port", "0", env=env)
    return wait_for_line(process, r"on (http://127\.0\.0\.1:\d+)")[1]
