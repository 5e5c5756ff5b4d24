"""How long pages take with a million messages and 100,000 dead letters, and what open pages cost Redis."""

from __future__ import annotations

import random
import statistics
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import connect
from support.chromium import DESK, chromium
from support.process import Proc
from support.wait import wait_for_line

from taskq import TaskQ
from taskq.client.dlq import Evidence, pack_evidence
from taskq.client.dlq.letter import read_letter
from taskq.client.dlq.transfer import Line, restore
from taskq.values.message import Message, decode, encode, new_id

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

QUEUED, DEAD = 1_000_000, 100_000
LIMIT = 0.1
"""Seconds that a page may take."""
COMMANDS = 20
"""Commands a second that Redis may get from open pages."""
TABS = 3
UPDATES = 20
SHOWS = """(number) => {
  const rows = [...document.querySelectorAll("tr")].filter((row) => row.innerText.includes("mail"));
  return rows.some((row) => row.querySelector("[data-label=Waiting]")?.innerText === number);
}"""


def test_pages_are_quick_however_much_there_is(
    private_redis: Callable[..., Any], spawn: Callable[..., Proc], capsys: pytest.CaptureFixture[str]
) -> None:
    server = private_redis()
    app = TaskQ("large", broker_url=server.url)
    fill(app)
    process = spawn("-m", "taskq", "dashboard", "--port", "0", env={"TASKQ_BROKER_URL": server.url})
    address = wait_for_line(process, r"on (http://127\.0\.0\.1:\d+)")[1]
    times = {path: measured(address + path) for path in paths(app)}
    cost, inner = cost_of_open_pages(address, server.url)
    app.close()
    with capsys.disabled():
        print(f"\n{QUEUED:,} messages, {DEAD:,} dead letters\n")
        for path, (median, worst) in times.items():
            print(f"| `{path}` | {median * 1000:.0f} | {worst * 1000:.0f} |")
        print(f"\n{TABS} open pages: {cost:.1f} commands a second (and {inner:.1f} inside scripts)")
    assert not {path: median for path, (median, _) in times.items() if median > LIMIT}
    assert cost <= COMMANDS


def fill(app: TaskQ) -> None:
    @app.task(queue="mail")
    def send(order: int, to: str) -> None: ...

    restore(app.sync_broker, app.keys, dead_letters())
    assert app.dlq.count("failing") == DEAD
    for start in range(0, QUEUED, 50_000):
        send.delay_many([(n, "somebody@example.org") for n in range(start, start + 50_000)])
    later = send.options(countdown=3600)
    with app.batch():
        for n in range(10_000):
            later.delay(n, "later@example.org")


def dead_letters() -> Iterator[Line]:
    """Of twenty kinds, each as long as a real one."""
    traceback = (
        "Traceback (most recent call last):\n" + '  File "shop.py", line 7, in charge\n    bank.ask(order)\n' * 12
    )
    now = time.time_ns() // 1_000_000
    for n in range(DEAD):
        message = Message(1, new_id(), f"shop.charge_{n % 20}", [n, "somebody@example.org"], {"amount": n / 7})
        evidence = Evidence(
            error_type="BankError",
            error=f"order {n} cannot be charged",
            traceback=traceback,
            reason="failed",
            attempts=4,
            worker="host:1:abcdef",
            died_at=now,
        )
        fields = (b"m", encode(message), b"i", pack_evidence(evidence))
        yield Line(read_letter("failing", b"%d-%d" % (now, n), fields), "failing")


def paths(app: TaskQ) -> list[str]:
    letter = app.dlq.list("failing", limit=1)[0]
    newest = app.sync_broker.execute("XREVRANGE", app.keys.queue("mail").stream(5), "+", "-", "COUNT", 1)
    return [
        *("/", "/?part=live", "/queues", "/queues/mail", "/live/past", "/workers", "/tasks", "/schedules", "/events"),
        *("/limits", "/audit", "/ended", "/batch-jobs", "/messages?queue=mail", "/messages?queue=mail&state=newest"),
        *("/messages?queue=mail&state=delayed", "/messages?queue=mail&q=nowhere-to-be-found"),
        *("/dlq", "/dlq/letters", "/dlq/letters?text=nowhere-to-be-found", "/dlq/letters?text=order+7"),
        f"/dlq/letters/failing/{letter.entry}",
        f"/messages/{decode(newest[0][1][1]).task_id}?queue=mail&place=5@{newest[0][0].decode()}",
        f"/dlq/bulk?action=replay&fingerprint={letter.group}",
    ]


def test_a_change_in_redis_is_seen_within_a_second(
    private_redis: Callable[..., Any], spawn: Callable[..., Proc], capsys: pytest.CaptureFixture[str]
) -> None:
    server = private_redis()
    app = TaskQ("followed", broker_url=server.url)
    process = spawn("-m", "taskq", "dashboard", "--port", "0", env={"TASKQ_BROKER_URL": server.url})
    address = wait_for_line(process, r"on (http://127\.0\.0\.1:\d+)")[1]
    app.send_task("shop.add", queue="mail")
    times = []
    with chromium() as browser:
        page = browser.new_page(viewport=DESK)
        page.goto(address)
        for number in range(2, UPDATES + 2):
            page.wait_for_timeout(random.uniform(0, 1000))
            app.send_task("shop.add", queue="mail")
            began = time.perf_counter()
            page.wait_for_function(SHOWS, arg=str(number), polling=10, timeout=20_000)
            times.append(time.perf_counter() - began)
    app.close()
    median, worst = statistics.median(times), max(times)
    with capsys.disabled():
        print(f"\n{UPDATES} changes seen in the overview: median {median:.2f} s, longest {worst:.2f} s behind Redis")
    assert median < 1


def measured(url: str) -> tuple[float, float]:
    """Median and longest of some requests, the first one apart, in seconds."""
    times = []
    for _ in range(8):
        began = time.perf_counter()
        headers = {"HX-Request": "true"} if "part=" in url else {}
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            answer.read()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:]), max(times[1:])


def cost_of_open_pages(address: str, redis_url: str, seconds: float = 10) -> tuple[float, float]:
    """Commands a second that Redis gets, and those inside scripts, while some pages are open and follow."""
    stop = threading.Event()

    def tab() -> None:
        with urllib.request.urlopen(f"{address}/live") as events:
            for line in events:
                if line.startswith(b"event: moment"):
                    part = urllib.request.Request(f"{address}/?part=live", headers={"HX-Request": "true"})
                    urllib.request.urlopen(part).read()
                if stop.is_set():
                    return

    tabs = [threading.Thread(target=tab, daemon=True) for _ in range(TABS)]
    for each in tabs:
        each.start()
    sent = inner = 0
    with connect(redis_url) as client, client.monitor() as monitor:
        end = time.monotonic() + seconds
        for command in monitor.listen():
            sent += command["client_type"] != "lua"
            inner += command["client_type"] == "lua"
            if time.monotonic() > end:
                break
    stop.set()
    for each in tabs:
        each.join(30)
    return sent / seconds, inner / seconds
