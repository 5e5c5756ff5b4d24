"""Pages of what moves: messages that ended, batch jobs, queues of event groups, rate limits."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import connect
from support.browser import Browser
from support.wait import eventually
from support.worker import running_worker

from taskq import TaskQ, Window, cron
from taskq.beat.beat import Beat
from taskq.broker.views.ended import EndedMessage, pack
from taskq.dashboard import asgi
from taskq.dashboard.sampler import BUDGET
from taskq.worker.reporting import report

Make = Callable[[Any], Browser]
NAMED = "key-77aa01"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "EVERY", 0.05)


def test_messages_that_ended_are_shown_with_outcome_runtime_and_worker(
    app: TaskQ, open_site: Any, browser: Make
) -> None:
    def fail() -> None:
        raise ValueError("no")

    app.task(name="shop.work", queue="alpha")(lambda: None)
    app.task(name="shop.fail", queue="beta", max_retries=0)(fail)
    visitor = browser(open_site)
    with running_worker(app, queues=["alpha", "beta"]) as running:
        worked, failed = app.tasks["shop.work"].delay().id, app.tasks["shop.fail"].delay().id
        eventually(lambda: all(one in visitor.get("/ended").text for one in (worked, failed)))
        worker = running.consumer.decode()
    assert f'title="{worker}"' in visitor.get("/ended").text
    for query, shown in {
        "queue=alpha": {worked},
        "outcome=failure": {failed},
        "task=shop.work": {worked},
        "queue=alpha&outcome=failure": set(),
        "queue=no-such&outcome=no-such": {worked, failed},
    }.items():
        text = visitor.get(f"/ended?{query}").text
        assert {one for one in (worked, failed) if one in text} == shown, query
    part = visitor.get("/ended?part=live&outcome=failure", headers={"hx-request": "true"}).text
    assert failed in part
    assert "<html" not in part
    app.dlq.purge()


@pytest.mark.parametrize("digits", ["9" * 20, "9" * 5000])
def test_a_number_beyond_all_in_an_address_is_none(digits: str, app: TaskQ, open_site: Any, browser: Make) -> None:
    app.task(name="shop.work")(lambda: None)
    sent = app.tasks["shop.work"].options(countdown=3600).delay()
    visitor = browser(open_site)
    assert sent.id in visitor.get(f"/messages?queue=default&state=delayed&after={digits}").text
    assert "shop.work" in visitor.get(f"/messages/{sent.id}?at={digits}").text
    app.purge("default", delayed=True)


def test_rows_that_nobody_can_read_are_passed_over(
    app: TaskQ, redis_client: Any, open_site: Any, browser: Make
) -> None:
    keys = app.keys.queue("default")
    redis_client.sadd(app.keys.queues, "default")
    row = EndedMessage(1, "SUCCESS", "<b>shop</b>", "id-1", "w")
    redis_client.rpush(keys.ended_well, b"\xc1", b"text", pack(row), pack([1, 2]))
    redis_client.set(keys.ended_otherwise, "another kind")
    text = browser(open_site).get("/ended").text
    redis_client.delete(keys.ended_well, keys.ended_otherwise)
    assert "&lt;b&gt;shop" in text
    assert "1 of 1 shown" in text


@pytest.mark.leaves_keys("event streams keep their events")
def test_how_far_batch_jobs_have_come(app: TaskQ, make_app: Callable[..., TaskQ], browser: Make) -> None:
    halfway, go_on = threading.Event(), threading.Event()
    app.topic("orders")

    @app.batch_job(cron("0 1 * * *", tz="UTC"), source="orders", name="settle", page=4)
    def settle(window: Window) -> dict[str, str]:
        for page in window.pages():
            page.commit()
            if not halfway.is_set():
                halfway.set()
                go_on.wait(20)
        return {"api_token": "tok-5f1c9b", "paid": "all"}

    app.publish_many("orders", range(8))
    site, stranger = asgi.app(app), asgi.app(make_app())
    visitor, other = browser(site), browser(stranger)
    assert "never ran" in visitor.get("/batch-jobs").text
    assert "settle" not in other.get("/batch-jobs").text
    Beat(app).tick()
    with running_worker(app):
        assert visitor.post("/batch-job/run/settle").status == 303
        assert halfway.wait(20)
        eventually(lambda: "50 %" in visitor.get("/batch-jobs").text)
        assert "4 of 8" in eventually(lambda: "settle" in (text := other.get("/batch-jobs").text) and text)
        go_on.set()
        eventually(lambda: "100 %" in visitor.get("/batch-jobs").text)
        text = eventually(lambda: "paid" in (text := visitor.get("/batch-jobs").text) and text)
    assert "tok-5f1c9b" not in text
    assert other.post("/batch-job/run/settle").status == 404
    site.close()
    stranger.close()


@pytest.mark.leaves_keys("event streams keep their events")
def test_queues_of_event_groups_are_paused_resumed_and_purged(app: TaskQ, open_site: Any, browser: Make) -> None:
    app.topic("orders")
    app.subscriber("orders", group="audit")(lambda event: None)
    queue = "orders/audit"
    with running_worker(app):
        app.publish("orders", {"n": 1})
        eventually(lambda: queue in app.known_queues())
    visitor = browser(open_site)
    assert f'action="/queue/pause/{queue}"' in visitor.get(f"/queues/{queue}").text
    assert visitor.post(f"/queue/pause/{queue}").header("location") == f"/queues/{queue}"

    def stats() -> Any:
        return next(one for one in app.queues() if one.queue == queue)

    assert stats().paused
    app.publish_many("orders", range(3))
    app.send_task("any", queue="default")
    with running_worker(app, queues=[queue]):
        eventually(lambda: stats().lag >= 3)
    assert visitor.post(f"/queue/purge/{queue}", {"confirm": "orders"}).status == 303
    assert stats().lag >= 3, "the name was another"
    assert visitor.post(f"/queue/purge/{queue}", {"confirm": queue}).status == 303
    assert stats().lag == 0
    assert visitor.post(f"/queue/resume/{queue}").header("location") == f"/queues/{queue}"
    assert not stats().paused
    for path in (f"/messages?queue={queue}", f"/ended?queue={queue}", f"/dlq?queue={queue}", "/queues"):
        assert visitor.get(path).status == 200, path


def test_a_rate_limit_shows_what_it_allows_and_what_waits(app: TaskQ, open_site: Any, browser: Make) -> None:
    app.task(name="announce", queue="partners", rate_limit="2/h", ignore_result=True)(lambda: None)
    app.tasks["announce"].delay_many([()] * 5)
    visitor = browser(open_site)
    with running_worker(app, queues=["partners"]):
        text = eventually(lambda: "holding back" in (text := visitor.get("/limits").text) and text)
        assert "2/3600s" in text
        assert '<td class="n" data-label="Starts">2</td>' in text
        eventually(lambda: '<td class="n" data-label="Waiting">3</td>' in visitor.get("/limits").text)
    app.purge("partners")


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/", "/workers", "/ended", "/limits"])
def test_an_open_page_costs_redis_at_most_twenty_commands_a_second(
    path: str, private_redis: Callable[..., Any], browser: Make
) -> None:
    """However many queues there are: the page asks again at its pace for as long as that takes."""
    server = private_redis()
    app = TaskQ("many", broker_url=server.url)
    for n in range(40):
        app.task(name=f"announce{n}", queue=f"q{n}", rate_limit="1/h")(lambda: None)
        app.send_task("any", queue=f"q{n}")
    site = asgi.app(app)
    visitor = browser(site)
    page = visitor.get(path).text
    with connect(server.url) as client:
        looks = int(re.search(r"throttle:(\d+)s", page)[1]) if "throttle" in page else 1  # type: ignore[index]
        began = time.monotonic()
        # less the one look that is more than the time between looks allows
        sampler = (cost_of(client, lambda: time.sleep(3)) - BUDGET) / (time.monotonic() - began)
        # the least of some, without those of a look at the same time
        part = min(
            cost_of(client, lambda: visitor.get(f"{path}?part=live", headers={"hx-request": "true"})) for _ in range(5)
        )
    site.close()
    app.close()
    assert sampler > 1, "it looks at the queues"
    assert sampler + part / looks <= 20


def cost_of(client: Any, action: Callable[[], object]) -> int:
    """The commands that Redis gets meanwhile, without those inside scripts."""
    seen: list[Any] = []
    with client.monitor() as monitor:
        action()
        client.echo("over")
        for command in monitor.listen():
            if command["command"] == "ECHO over":
                return len(seen)
            seen += [command] if command["client_type"] != "lua" else []
    raise AssertionError


def test_a_fifo_is_a_queue_like_others(app: TaskQ, open_site: Any, browser: Make) -> None:
    jobs = app.queue("jobs")
    jobs.put_many([{"order": n, "api_token": NAMED} for n in range(3)])
    jobs.get(timeout=20).reject("not today")
    visitor, queue = browser(open_site), "fifo:jobs"
    (letter,) = app.dlq.list(queue)
    for path in (
        *("/", "/queues", f"/queues/{queue}", f"/messages?queue={queue}", f"/ended?queue={queue}", "/ended", "/tasks"),
        *(f"/dlq?queue={queue}", "/dlq/letters", f"/dlq/letters/{queue}/{letter.entry}"),
        f"/dlq/letter/edit/{queue}/{letter.entry}",
        f"/messages/{letter.task_id}?queue={queue}",
    ):
        answer = visitor.get(path)
        assert answer.status in (200, 303), path
        assert NAMED not in answer.text, path
    assert "No worker" not in visitor.get("/").text
    assert visitor.post(f"/queue/pause/{queue}").header("location") == f"/queues/{queue}"
    assert "paused" in visitor.get(f"/queues/{queue}").text
    assert visitor.post(f"/queue/resume/{queue}").status == 303
    assert visitor.post(f"/dlq/letter/replay/{queue}/{letter.entry}").status == 303
    assert jobs.get(timeout=20).value["api_token"] == NAMED
    jobs.close()
    assert visitor.post(f"/queue/purge/{queue}", {"confirm": queue}).status == 303
    assert jobs.size() == 0


def test_every_time_says_its_zone(app: TaskQ, open_site: Any, browser: Make) -> None:
    def fail() -> None:
        raise ValueError("no")

    app.task(name="shop.fail", max_retries=0)(fail)
    app.schedules.add("nightly", cron("0 2 * * *", tz="Asia/Tokyo"), "shop.fail")
    app.tasks["shop.fail"].delay()
    with running_worker(app) as running:
        (letter,) = eventually(app.dlq.list)
        visitor = browser(open_site)
        worker = eventually(
            lambda: "Started" in (text := visitor.get(f"/workers/{running.consumer.decode()}").text) and text
        )
    app.dlq.replay()
    times = re.compile(r">(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[^<]*)<")
    for text in (
        visitor.get(f"/dlq/letters/{letter.queue}/{letter.entry}").text, worker, visitor.get("/audit").text,
        visitor.get("/schedules/nightly").text, visitor.get(f"/messages/{letter.task_id}").text,
    ):  # fmt: skip
        found = [time for time in times.findall(text) if not time.endswith(" UTC")]
        assert not found
    assert times.search(visitor.get("/schedules/nightly").text)
    assert "UTC</span></figcaption>" in visitor.get("/").text
    app.schedules.remove("nightly")
    app.purge("default")
    app.dlq.purge()


def test_a_message_that_succeeded_has_a_page(app: TaskQ, redis_client: Any, open_site: Any, browser: Make) -> None:
    @app.task(name="shop.work", queue="alpha")
    def work(path: str, api_token: str) -> str:
        return f"{path}.webp"

    visitor = browser(open_site)
    with running_worker(app, queues=["alpha"]) as running:
        sent = work.delay("a.png", "tok-5f1c9b").id
        text = eventually(lambda: "Duration" in (text := visitor.get(f"/messages/{sent}?queue=alpha").text) and text)
        worker = running.consumer.decode()
    assert re.search(r"<h1>shop.work\s+<span class=\"badge ok\">success</span>", text)
    for shown in (sent, "a.png.webp", f'href="/workers/{worker}"', "Started", "UTC", "Arguments are not kept"):
        assert shown in text, shown
    assert "tok-5f1c9b" not in text
    stopped = visitor.get(f"/messages/{sent}?queue=alpha").text
    assert worker in stopped
    assert f'href="/workers/{worker}"' not in stopped, "a worker that has stopped has no page"
    redis_client.delete(app.keys.queue("alpha").ended_well)
    text = visitor.get(f"/messages/{sent}?queue=alpha").text
    assert "it is not in the sample" in text
    assert "a.png.webp" in text
