"""A dashboard with an operator and a viewer, and one that is open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.browser import CREDENTIALS, Browser

from taskq import TaskQ
from taskq.dashboard import asgi


@pytest.fixture
def open_site(app: TaskQ) -> Any:
    """A dashboard without passwords."""
    return asgi.app(app)


@pytest.fixture
def guarded_site(app: TaskQ) -> Any:
    """A dashboard for an operator and a viewer."""
    return asgi.app(app, credentials=CREDENTIALS)


@pytest.fixture
def browser() -> Callable[[Any], Browser]:
    """Make browsers."""
    return Browser
