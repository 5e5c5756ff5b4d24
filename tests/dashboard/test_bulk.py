"""Work on many dead letters: what it says before it starts, where it can go, and stopping it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.browser import CREDENTIALS, OPERATOR, VIEWER, Browser
from support.chromium import DESK, sign_in
from support.wait import eventually
from support.worker import run_burst

from taskq import TaskQ
from taskq.dashboard.pages import bulk

Make = Callable[[Any], Browser]


@pytest.fixture
def letters(app: TaskQ) -> Iterator[TaskQ]:
    """30 dead letters in two queues."""

    def fail(n: int, api_token: str = "") -> None:
        raise ValueError("odd") if n % 2 else OSError("even")

    for queue, count in (("emails", 20), ("images", 10)):
        task = app.task(name=f"shop.{queue}", queue=queue, max_retries=0)(fail)
        task.delay_many([(n, f"tok-{n:04}") for n in range(count)])
    run_burst(app)
    yield app
    for queue in ("emails", "images"):
        app.purge(queue)
    app.dlq.purge()


def said(text: str) -> str:
    """What the form says it is about."""
    found = re.search(r'class="card narrow">.*?<p>(.*?)</p>', text, re.DOTALL)
    assert found
    return " ".join(re.sub(r"<[^>]+>", "", found[1]).split())


def test_it_says_how_many_before_it_starts(
    letters: TaskQ, open_site: Any, browser: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = browser(open_site)
    for query, text in {
        "": "30 dead letters in all queues:",
        "queue=emails": "20 dead letters in emails:",
        "queue=emails&error=ValueError": "10 dead letters in emails match:",
        "queue=images&task=shop.emails": "0 dead letters in images match:",
        "text=even": "15 dead letters in all queues match:",
        "text=tok-0003": "0 dead letters in all queues match:",  # what is not shown cannot be searched for
    }.items():
        assert said(visitor.get(f"/dlq/bulk?action=replay&{query}").text) == text, query
    monkeypatch.setattr(bulk, "COUNTED", 10)
    text = said(visitor.get("/dlq/bulk?action=purge&queue=emails&error=ValueError").text)
    assert re.fullmatch(r"\d+ or more, searched 10 of 20, in emails match:", text), text


def test_dead_letters_of_tasks_go_to_queues_of_tasks_alone(letters: TaskQ, open_site: Any, browser: Make) -> None:
    letters.queue("jobs").put("item")
    letters.topic("orders")
    letters.subscriber("orders", group="audit")(lambda event: None)
    letters.publish("orders", {"n": 1})
    names = eventually(lambda: {"fifo:jobs", "images"} <= set(letters.known_queues()) and letters.known_queues())
    visitor = browser(open_site)
    text = visitor.get("/dlq/bulk?action=replay&queue=emails").text
    offered = re.findall(r"<option>([^<]+)</option>", text.partition('id="to"')[2])
    assert offered == [name for name in names if name != "emails" and not name.startswith("fifo:") and "/" not in name]
    refused = visitor.post("/dlq/replay", {"queue": "emails", "to": "fifo:jobs"})
    assert refused.status == 404
    assert letters.dlq.count("emails") == 20
    letters.queue("jobs").purge()


def test_a_replay_that_is_stopped_leaves_the_others_and_says_so(letters: TaskQ, open_site: Any, browser: Make) -> None:
    visitor = browser(open_site)
    job = visitor.post("/dlq/replay", {"queue": "emails", "rate": "4/s"}).header("location")
    eventually(lambda: "<b>0</b>" not in visitor.get(job).text)
    assert 'id="stop"' in visitor.get(job).text
    assert visitor.post(f"{job}/stop").header("location") == job
    text = eventually(lambda: "Stopped" in (text := visitor.get(job).text) and text)
    assert "(by local)" in text
    assert 'id="stop"' not in text
    left = letters.dlq.count("emails")
    assert 0 < left < 20
    (run,) = letters.dlq.runs("emails")
    assert (run.state, run.total.replayed) == ("stopped", 20 - left)
    assert "job.stop" in visitor.get("/audit").text
    assert visitor.post(f"{job}/stop").status == 303, "again is harmless"
    assert visitor.post("/jobs/no-such/stop").status == 404


def test_a_viewer_cannot_stop_it(letters: TaskQ, make_site: Callable[..., Any], browser: Make) -> None:
    site = make_site(credentials=CREDENTIALS)
    olga, vera = browser(site), browser(site)
    olga.sign_in(OPERATOR)
    vera.sign_in(VIEWER)
    job = olga.post("/dlq/purge", {"queue": "emails", "confirm": "purge"}).header("location")
    assert vera.post(f"{job}/stop").status == 403
    eventually(lambda: "done" in olga.get(job).text)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_running_job_is_stopped_with_its_button(shared_browser: Any, dashboard: str, letters: TaskQ) -> None:
    page = shared_browser.new_page(viewport=DESK)
    sign_in(page, dashboard)
    page.goto(f"{dashboard}/dlq/bulk?action=replay&queue=emails")
    page.fill("#rate", "2/s")
    page.click("text=Replay them")
    page.wait_for_url(re.compile("/jobs/"))
    page.click("#stop")
    page.wait_for_selector("#job >> text=Stopped")
    assert letters.dlq.count("emails") > 0
    page.close()
