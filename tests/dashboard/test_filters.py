"""In a real browser: filters react in every field, stay in the address, and survive Back, reload and signing in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from support.browser import OPERATOR
from support.chromium import DESK, sign_in
from support.wait import eventually
from support.worker import run_burst

from taskq import TaskQ

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def page(shared_browser: Any) -> Iterator[Any]:
    """A page of a browser that nobody has used."""
    context = shared_browser.new_context(viewport=DESK)
    yield context.new_page()
    context.close()


def filters(page: Any) -> dict[str, str]:
    """The filters in the address."""
    return dict(parse_qsl(urlsplit(page.evaluate("location.href")).query))


def row_count(page: Any, count: int) -> None:
    eventually(lambda: page.locator("#rows tbody tr, #live tbody tr").count() == count)


@pytest.fixture
def mail(app: TaskQ) -> Iterator[TaskQ]:
    """Two queues with messages."""
    for n in range(3):
        app.send_task("mail.send", [f"note-{n}"], queue="emails")
    app.send_task("mail.sort", ["all"], queue="emails")
    app.send_task("shop.resize", ["a.png"], queue="images")
    yield app
    app.purge("emails")
    app.purge("images")


def test_messages_are_filtered_while_one_types_in_any_field(page: Any, dashboard: str, mail: TaskQ) -> None:
    sign_in(page, dashboard)
    page.goto(f"{dashboard}/messages?queue=emails")
    row_count(page, 4)
    page.locator("#task").press_sequentially("sort")
    row_count(page, 1)
    eventually(lambda: filters(page) == {"queue": "emails", "state": "queued", "task": "sort"})
    page.fill("#task", "")
    page.locator("#q").press_sequentially("note-2")
    eventually(lambda: filters(page) == {"queue": "emails", "state": "queued", "q": "note-2"})
    row_count(page, 1)
    page.reload()
    assert page.input_value("#q") == "note-2"
    row_count(page, 1)
    page.click("#rows tbody a")
    page.wait_for_url(re.compile(r"/messages/"))
    page.go_back()
    assert page.input_value("#q") == "note-2"
    row_count(page, 1)


def test_each_choice_is_a_step_that_back_undoes_and_tabs_keep_what_was_chosen(
    page: Any, dashboard: str, mail: TaskQ
) -> None:
    sign_in(page, dashboard)
    page.goto(f"{dashboard}/messages?queue=emails")
    page.select_option("#queue", "images")
    row_count(page, 1)
    assert filters(page)["queue"] == "images"
    page.go_back()
    row_count(page, 4)
    assert page.input_value("#queue") == "emails"
    page.go_forward()
    row_count(page, 1)
    assert page.input_value("#queue") == "images"
    page.select_option("#queue", "emails")
    row_count(page, 4)
    page.fill("#task", "sort")
    row_count(page, 1)
    for tab in ("Running", "Ended", "Newest"):
        page.click(f"#tabs >> text={tab}")
        page.wait_for_selector(f"#tabs [aria-current=page]:has-text('{tab}')")
        assert filters(page)["queue"] == "emails", tab
        assert filters(page)["task"] == "sort", tab
        assert page.input_value("#task") == "sort"
    row_count(page, 1)


def test_the_id_of_a_message_leads_to_it(page: Any, dashboard: str, mail: TaskQ) -> None:
    sent = mail.send_task("shop.resize", ["b.png"], queue="images").id
    sign_in(page, dashboard)
    page.goto(f"{dashboard}/messages?queue=emails")
    page.fill("#q", sent)
    page.wait_for_url(f"{dashboard}/messages/{sent}?queue=images")
    assert page.locator("h1").count() == 1


def test_dead_letters_are_filtered_while_one_types_in_any_field(page: Any, dashboard: str, app: TaskQ) -> None:
    @app.task(queue="emails", max_retries=0)
    def send(to: str) -> None:
        raise ValueError(f"no mail for {to}") if to < "c" else OSError("the line is down")

    send.delay_many([("ada",), ("bob",), ("cleo",)])
    run_burst(app)
    group = next(one for one in app.dlq.groups() if one.error_type == "OSError")
    sign_in(page, dashboard)
    page.goto(f"{dashboard}/dlq/letters")
    row_count(page, 3)
    for field, text, left in (
        ("task", send.name, 3),
        ("error", "ValueError", 2),
        ("text", "bob", 1),
        ("fingerprint", group.fingerprint, 1),
    ):
        page.locator(f"#{field}").press_sequentially(text)
        row_count(page, left)
        eventually(lambda field=field, text=text: filters(page) == {field: text})
        page.reload()
        row_count(page, left)
        assert page.input_value(f"#{field}") == text
        page.fill(f"#{field}", "")
        row_count(page, 3)
    page.fill("#error", "OSError")
    row_count(page, 1)
    page.click("#rows tbody a")
    page.wait_for_selector("text=Traceback")
    page.go_back()
    assert page.input_value("#error") == "OSError"
    row_count(page, 1)
    page.goto(f"{dashboard}/dlq")
    page.select_option("#queue", "emails")
    eventually(lambda: filters(page) == {"queue": "emails"})
    app.dlq.purge()


def test_ended_messages_react_at_once_to_each_filter_and_stay_live(page: Any, dashboard: str, app: TaskQ) -> None:
    @app.task(queue="emails", max_retries=0, ignore_result=True)
    def send(to: str) -> None:
        if to == "bob":
            raise ValueError("no")

    @app.task(queue="emails", ignore_result=True)
    def sort() -> None: ...

    send.delay_many([("ada",), ("bob",)])
    sort.delay()
    run_burst(app)
    sign_in(page, dashboard)
    page.goto(f"{dashboard}/ended?queue=emails")
    row_count(page, 3)
    page.wait_for_selector("#pulse:has-text('live')")
    # a part that is refreshed at its own pace must not hold back what somebody chooses
    page.evaluate("htmx.trigger(document.body, 'moment')")
    for choose, left in (
        (lambda: page.select_option("#outcome", "failure"), 1),
        (lambda: page.select_option("#outcome", ""), 3),
        (lambda: page.locator("#task").press_sequentially("sort"), 1),
        (lambda: (page.fill("#task", "send"), page.keyboard.press("Enter")), 2),
    ):
        with page.expect_response(lambda answer: "/ended?part=live" in answer.url, timeout=1500):
            choose()
        row_count(page, left)
    eventually(lambda: filters(page) == {"queue": "emails", "task": "send"})
    send.delay("cleo")
    run_burst(app)
    row_count(page, 3)
    assert page.input_value("#task") == "send", "what is live keeps the filters"
    page.reload()
    row_count(page, 3)
    page.go_back()
    app.dlq.purge()


def test_signing_in_and_the_choice_of_colours_keep_the_filters(page: Any, dashboard: str, mail: TaskQ) -> None:
    address = f"{dashboard}/messages?queue=emails&state=newest&q=note-1"
    page.goto(address)
    page.fill("#secret", OPERATOR)
    page.click("main button")
    page.wait_for_url(address)
    row_count(page, 1)
    page.click("button[title='Colours: dark']")
    page.wait_for_selector("html[data-theme=dark]")
    assert page.url == address
    page.select_option("#queue", "images")
    eventually(lambda: filters(page)["queue"] == "images")
    chosen = page.url
    page.click("button[title='Colours: light']")
    page.wait_for_selector("html[data-theme=light]")
    assert page.url == chosen
