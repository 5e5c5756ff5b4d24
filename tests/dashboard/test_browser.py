"""In a real browser: nothing from a message runs, nothing is too wide, too pale or without a name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from support import hostile
from support.chromium import DESK, OVERFLOW, PALE, PHONE, SMUGGLED, UNNAMED, sign_in
from support.wait import eventually
from support.worker import run_burst, running_worker

from taskq import TaskQ, every
from taskq.values.escaping import escaped

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

EACH = 1
"""Pages of one kind that the crawl looks at."""


def watch(page: Any) -> list[str]:
    """What the browser complains about from now on."""
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    return complaints


def kind(path: str) -> str:
    """Pages that differ only in what they are about are of one kind."""
    parts = urlsplit(path)
    return re.sub(r"(?<=/)(?!letters)[^/]{1,}(?=$|/)", "*", parts.path[1:]) + "?" + re.sub(r"=[^&]*", "", parts.query)


def crawl(page: Any, address: str, accepted: tuple[int, ...] = (200,)) -> Iterator[str]:
    """Open every page that links lead to, a few of each kind."""
    todo, seen, kinds = ["/"], {"/"}, Counter[str]()
    while todo:
        path = todo.pop(0)
        answer = page.goto(address + path, wait_until="load")
        assert answer.status in accepted, f"{answer.status} {path}"
        yield path
        for link in page.eval_on_selector_all("a[href]", "all => all.map((one) => one.href)"):
            target = link.removeprefix(address).partition("#")[0]
            if link.startswith(address) and target not in seen and kinds[kind(target)] < EACH:
                kinds[kind(target)] += 1
                seen.add(target)
                todo.append(target)


def test_nothing_of_a_message_runs_in_any_page(
    shared_browser: Any, dashboard: str, app: TaskQ, redis_client: Any
) -> None:
    hostile.fill(app, redis_client)
    try:
        page = shared_browser.new_page(viewport=DESK)
        sign_in(page, dashboard)
        complaints = watch(page)
        visited, shown = [], ""
        # names that our own code refuses have no page of their own
        for path in crawl(page, dashboard, accepted=(200, 400, 404)):
            assert not page.evaluate(SMUGGLED), f"{unquote(path)}: {page.evaluate(SMUGGLED)}"
            complaints[:] = [text for text in complaints if "the server responded with a status of 40" not in text]
            assert not complaints, f"{unquote(path)}: {complaints}"
            shown += page.inner_text("body")
            visited.append(path)
        assert len(visited) > 20, visited
        for text in hostile.CORPUS:
            assert escaped(text, keep="\n\t") in shown, f"{text!r} is not shown"
        assert "hunter2" not in shown
        page.close()
    finally:
        clean_up(app, redis_client)


def clean_up(app: TaskQ, client: Any) -> None:
    for key in client.scan_iter(match=f"{app.keys.namespace}:*", count=1000):
        client.unlink(key)


def test_pages_fit_a_phone_and_can_be_read_and_used(
    shared_browser: Any, dashboard: str, app: TaskQ, redis_client: Any
) -> None:
    @app.task(queue="emails", max_retries=0)
    def send(to: str) -> None:
        raise ValueError(f"no mail for {to} " + "x" * 300)

    for n in range(3):
        send.delay(f"{n}@example.org")
    run_burst(app)
    for n in range(3):
        send.delay("a-very-long-argument-" * 20 + str(n))
        send.options(countdown=1000).delay(str(n))
    try:
        page = shared_browser.new_page(viewport=DESK)
        sign_in(page, dashboard)
        complaints = watch(page)
        for path in crawl(page, dashboard):
            assert not (unnamed := page.evaluate(UNNAMED)), f"{path}: {unnamed}"
            assert page.locator("h1").count() == 1, path
            for window, colours in ((DESK, "light"), (PHONE, "dark"), (PHONE, "light")):
                page.set_viewport_size(window)
                page.emulate_media(color_scheme=colours)
                where = f"{path} ({window['width']} px, {colours})"
                assert page.evaluate(OVERFLOW) <= 0, where
                assert not (pale := page.evaluate(PALE)), f"{where}: {pale}"
            assert not complaints, f"{path}: {complaints}"
        page.close()
    finally:
        clean_up(app, redis_client)


def test_the_overview_follows_redis_without_a_reload(shared_browser: Any, dashboard: str, app: TaskQ) -> None:
    app.send_task("shop.add", [1, 2])
    page = shared_browser.new_page(viewport=DESK)
    sign_in(page, dashboard)
    page.wait_for_selector(".u-legend")
    page.evaluate("window.opened = 'once'")
    waiting = page.locator("tr:has-text('default') td[data-label=Waiting]")
    for number in (2, 3):
        app.send_task("shop.add", [3, 4])
        eventually(lambda number=number: waiting.inner_text() == str(number))
    app.purge("default")
    eventually(lambda: waiting.inner_text() == "0")
    assert page.evaluate("window.opened") == "once", "the page was loaded again"
    page.close()


def test_messages_that_end_appear_without_a_reload(
    shared_browser: Any, dashboard: str, app: TaskQ, redis_client: Any
) -> None:
    app.task(name="shop.work", ignore_result=True)(lambda: None)
    page = shared_browser.new_page(viewport=DESK)
    sign_in(page, dashboard)
    page.goto(f"{dashboard}/ended?outcome=success")
    page.evaluate("window.opened = 'once'")
    with running_worker(app):
        sent = app.tasks["shop.work"].delay().id
        eventually(lambda: sent in page.inner_text("#live"))
    page.select_option("#outcome", "failure")
    eventually(lambda: "No such message ended lately" in page.inner_text("#live"))
    assert page.evaluate("window.opened") == "once"
    page.close()


def test_charts_are_in_the_zone_of_everything_else(shared_browser: Any, dashboard: str, app: TaskQ) -> None:
    app.send_task("shop.add", [1, 2])
    context = shared_browser.new_context(viewport=DESK, timezone_id="Asia/Tokyo")
    page = context.new_page()
    sign_in(page, dashboard)
    seconds = """() => {
      const [h, m, s] = document.querySelector('.u-legend .u-value').textContent.split(':').map(Number);
      const now = new Date(), there = h * 3600 + m * 60 + s;
      const here = now.getUTCHours() * 3600 + now.getUTCMinutes() * 60 + now.getUTCSeconds();
      return Math.min((here - there + 86400) % 86400, (there - here + 86400) % 86400);
    }"""
    page.wait_for_selector(".u-legend .u-value:has-text(':')")
    assert page.evaluate(seconds) < 600
    assert "UTC" in page.inner_text(".u-legend >> nth=0")
    assert "UTC" in page.inner_text("figcaption >> nth=0")
    context.close()
    app.purge("default")


NARROW = (820, 1024, 1280)
BROKEN = """
() => [...document.querySelectorAll('table td, table th')].flatMap((cell) => {
  const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), broken = [];
  for (let node; (node = walker.nextNode());) {
    if (node.parentElement.closest('.clip, .hidden, .id')) continue;
    for (const word of node.textContent.matchAll(/[\\w.]{1,40}/g)) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      if (range.getClientRects().length > 1) broken.push(word[0]);
    }
  }
  return broken;
})
"""
"""Words in tables that stand on two lines."""


def test_no_word_of_a_table_is_broken(shared_browser: Any, dashboard: str, app: TaskQ, redis_client: Any) -> None:
    @app.task(name="storefront.notifications.send_receipt", queue="notifications", max_retries=0)
    def send(to: str) -> None:
        raise ConnectionError("the line is down")

    send.delay("ada")
    run_burst(app)
    send.delay("bob")
    send.options(countdown=1000).delay("cleo")
    app.schedules.add("storefront.nightly-settlement", every(3600), send.name, args=["ada"])
    app.audit.record("olga.the.operator", "schedule.pause", "storefront.nightly-settlement", {"queue": "notifications"})
    try:
        context = shared_browser.new_context(viewport=DESK)
        page = context.new_page()
        sign_in(page, dashboard)
        for path in ("/", "/queues", "/tasks", "/messages", "/ended", "/dlq", "/dlq/letters", "/schedules", "/audit"):
            page.goto(dashboard + path)
            for width in NARROW:
                page.set_viewport_size({"width": width, "height": 800})
                where = f"{path} ({width} px)"
                assert not (broken := page.evaluate(BROKEN)), f"{where}: {broken}"
                assert page.evaluate(OVERFLOW) <= 0, where
        context.close()
    finally:
        clean_up(app, redis_client)


def test_the_keyboard_is_enough_to_pause_a_queue(shared_browser: Any, dashboard: str, app: TaskQ) -> None:
    app.send_task("shop.add", [1, 2])
    page = shared_browser.new_page(viewport=DESK)
    sign_in(page, dashboard)
    page.goto(f"{dashboard}/queues/default")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for _ in range(3):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "switch-default":
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_selector("text=default is paused")
    assert app.queues()[0].paused
    page.close()
    app.resume("default")
    app.purge("default")


def test_colours_are_remembered(shared_browser: Any, dashboard: str) -> None:
    context = shared_browser.new_context(viewport=DESK, color_scheme="light")
    page = context.new_page()
    sign_in(page, dashboard)
    before = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.click("button[title='Colours: dark']")
    page.goto(f"{dashboard}/queues")
    assert page.get_attribute("html", "data-theme") == "dark"
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") != before
    context.close()
