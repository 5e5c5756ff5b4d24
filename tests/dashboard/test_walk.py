"""A walk over every route with every role and method: who may do what, and nobody from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.asgi import Answer, ask
from support.browser import OPERATOR, VIEWER, Browser

from taskq.dashboard import asgi
from taskq.dashboard.access import Role
from taskq.dashboard.guard import HEADERS
from taskq.dashboard.routing import Endpoint

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
EXAMPLES = {
    "queue": "default",
    "entry": "1-1",
    "task": "shop.add",
    "topic": "orders",
    "task_id": "0" * 32,
    "name": "host:1:abc",
    "id": "x",
}
WHO = {
    "nobody": ("", "", Role.NOBODY),
    "forged session": ("", "forged", Role.NOBODY),
    "wrong token": ("no-such-secret", "", Role.NOBODY),
    "viewer": ("", VIEWER, Role.VIEWER),
    "viewer by token": (VIEWER, "", Role.VIEWER),
    "operator": ("", OPERATOR, Role.OPERATOR),
    "operator by token": (OPERATOR, "", Role.OPERATOR),
}
"""Who -> bearer token, password (or a forged cookie), role."""


def address(endpoint: Endpoint) -> str:
    return re.sub(r"\{(\w+)(:path)?\}", lambda match: EXAMPLES[match[1]], endpoint.path)


def visitors(site: Any, make: Callable[[Any], Browser]) -> Iterator[tuple[str, Browser, dict[str, str], Role]]:
    for who, (bearer, password, role) in WHO.items():
        browser = make(site)
        browser.get("/login")
        if password == "forged":
            browser.cookies["taskq_session"] = "b2xnYQo5OTk5OTk5OTk5CmFiYw==." + "0" * 64
        elif password:
            assert browser.sign_in(password).status == 303
        yield who, browser, {"authorization": f"Bearer {bearer}"} if bearer else {}, role


def test_every_route_asks_for_its_role(
    guarded_site: Any, browser: Callable[[Any], Browser], capsys: pytest.CaptureFixture[str]
) -> None:
    endpoints = asgi.endpoints()
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        by_path.setdefault(address(endpoint), {})[endpoint.method] = endpoint
    asked = 0
    for who, visitor, headers, role in visitors(guarded_site, browser):
        token = visitor.token()
        for path, known in by_path.items():
            for method in METHODS:
                if path in ("/logout", "/login") and method == "POST":
                    continue  # they end or begin the visitor's session
                given = {**headers, "x-csrf-token": token}
                answer = ask(guarded_site, method, path, headers=given, cookies=visitor.cookies, form={}, client=who)
                check(f"{who}: {method} {path}", answer, known.get("GET" if method == "HEAD" else method), role)
                asked += 1
    assert asked == len(WHO) * (len(by_path) * len(METHODS) - 2)
    with capsys.disabled():
        print(f"\n{len(endpoints)} routes, {len(WHO)} visitors, {len(METHODS)} methods: {asked} requests")


def check(case: str, answer: Answer, endpoint: Endpoint | None, role: Role) -> None:
    for name, value in HEADERS.items():
        assert answer.header(name) == value, f"{case}: {name}"
    assert answer.header("cache-control") == "no-store", case
    if endpoint is None:
        assert answer.status == 405, case
    elif role >= endpoint.role:
        assert answer.status in (200, 303, 400, 404), f"{case}: {answer.status} {answer.text[:2000]}"
        assert "/login" not in answer.header("location") or endpoint.path in ("/login", "/theme"), case
    elif role > Role.NOBODY:
        assert answer.status == 403, case
    elif endpoint.method == "GET" and answer.status == 303:
        assert answer.header("location").startswith("/login?next="), case
    else:
        assert answer.status == 401, case


FOREIGN = {
    "no token": ({}, None),
    "wrong token": ({}, "0" * 64),
    "another browser's token": ({}, "other"),
    "another site, by Sec-Fetch-Site": ({"sec-fetch-site": "cross-site"}, "own"),
    "a neighbour, by Sec-Fetch-Site": ({"sec-fetch-site": "same-site"}, "own"),
    "another site, by Origin": ({"origin": "http://evil.example"}, "own"),
    "another port, by Origin": ({"origin": "http://127.0.0.1:9000"}, "own"),
    "no origin at all": ({"origin": "null"}, "own"),
}


@pytest.mark.parametrize("guarded", [True, False], ids=["signed in", "open"])
def test_no_route_acts_on_what_another_site_sends(
    guarded: bool, guarded_site: Any, open_site: Any, browser: Callable[[Any], Browser]
) -> None:
    site = guarded_site if guarded else open_site
    own, other = browser(site), browser(site)
    if guarded:
        own.sign_in(OPERATOR)
        other.sign_in(OPERATOR)
    tokens = {"own": own.token(), "other": other.token()}
    for endpoint in asgi.endpoints():
        if endpoint.method != "POST":
            continue
        for case, (headers, token) in FOREIGN.items():
            form = {} if token is None else {"csrf": tokens.get(token, token)}
            answer = ask(site, "POST", address(endpoint), headers=headers, cookies=own.cookies, form=form)
            assert answer.status == 403, f"{case}: {endpoint.path}"


def test_nothing_changes_where_it_is_read_only(
    make_site: Callable[..., Any], browser: Callable[[Any], Browser]
) -> None:
    visitor = browser(make_site(read_only=True))
    token = visitor.token()
    for endpoint in asgi.endpoints():
        if endpoint.method == "POST" and endpoint.role >= Role.OPERATOR:
            assert visitor.post(address(endpoint), token=token).status == 403, endpoint.path


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "[", "a b"])
def test_a_name_that_was_pointed_at_us_gets_nothing(host: str, open_site: Any) -> None:
    for endpoint in asgi.endpoints():
        assert ask(open_site, endpoint.method, address(endpoint), headers={"host": host}).status == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000", "192.168.7.5"])
def test_local_names_and_addresses_are_answered(host: str, open_site: Any) -> None:
    assert ask(open_site, "GET", "/login", headers={"host": host}).status == 303


def test_a_host_name_can_be_allowed(make_site: Callable[..., Any]) -> None:
    site = make_site(allowed_hosts=["queues.example"])
    assert ask(site, "GET", "/login", headers={"host": "queues.example:8000"}).status == 303
    assert ask(site, "GET", "/login", headers={"host": "other.example"}).status == 421
