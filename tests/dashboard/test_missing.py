"""Addresses that lead nowhere, slashes at the end, and refused names, alone and mounted."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from support.asgi import ask

from taskq import TaskQ


@pytest.fixture(params=["", "/admin/taskq"], ids=["alone", "mounted"])
def place(request: pytest.FixtureRequest, open_site: Any) -> tuple[Any, str]:
    """The dashboard as an application, and the path that it is below."""
    path: str = request.param
    return (Starlette(routes=[Mount(path, app=open_site)]) if path else open_site), path


@pytest.mark.parametrize("path", ["/nope", "/nope/", "/queues/no-such", "/workers/no/such/one", "/%3Cb%3E"])
def test_an_address_that_leads_nowhere_has_a_page_of_the_dashboard(path: str, place: tuple[Any, str]) -> None:
    whole, root = place
    answer = ask(whole, "GET", root + path)
    if path.endswith("/"):
        answer = ask(whole, "GET", answer.header("location"))
    assert answer.status == 404
    assert "<h1>Not found</h1>" in answer.text
    assert f'href="{root}/queues"' in answer.text, "the navigation is there"
    assert "content-security-policy" in dict(answer.headers)
    assert ask(whole, "GET", root + "/nope", headers={"accept": "application/json"}).status == 404


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/queues/", "/queues"),
        ("/queues//", "/queues"),
        ("/dlq/letters/?queue=a%2Fb&text=x", "/dlq/letters?queue=a%2Fb&text=x"),
        ("/queues/default/", "/queues/default"),
        ("/messages/" + "0" * 32 + "/", "/messages/" + "0" * 32),
    ],
)
def test_a_slash_at_the_end_does_no_harm(path: str, there: str, place: tuple[Any, str]) -> None:
    whole, root = place
    answer = ask(whole, "GET", root + path)
    assert (answer.status, answer.header("location")) == (303, root + there)


def test_nobody_is_led_elsewhere_by_slashes(open_site: Any) -> None:
    for path in ("//evil.example/", "/nope//evil.example/", "/\\evil.example/"):
        assert not ask(open_site, "GET", path).header("location").startswith(("//", "http", "/\\"))


def test_who_is_not_signed_in_learns_nothing_but_that_it_is_not_there(guarded_site: Any) -> None:
    answer = ask(guarded_site, "GET", "/nope")
    assert answer.status == 404
    assert "/queues" not in answer.text


def test_a_refused_name_is_told_both_ways_to_allow_it(place: tuple[Any, str], app: TaskQ) -> None:
    whole, root = place
    answer = ask(whole, "GET", root + "/queues", headers={"host": "other.example"})
    assert answer.status == 421
    assert "allowed_hosts=" in answer.text
    assert "--allowed-host" in answer.text
