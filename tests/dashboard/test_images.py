"""The pictures in ``docs/dashboard.md``: ``TASKQ_TEST_IMAGES=docs/images pytest tests/dashboard/test_images.py``."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.browser import OPERATOR
from support.chromium import chromium
from support.process import Proc
from support.wait import eventually, wait_for_line

from taskq import TaskQ

FOLDER = os.environ.get("TASKQ_TEST_IMAGES", "")

pytestmark = [
    pytest.mark.skipif(not FOLDER, reason="TASKQ_TEST_IMAGES does not name a folder for the pictures"),
    pytest.mark.timeout(300),
]

WINDOWS = {
    "light": ({"width": 1280, "height": 800}, "light"),
    "dark": ({"width": 1280, "height": 800}, "dark"),
    "phone": ({"width": 360, "height": 720}, "light"),
}
SECONDS = 40
"""How long the shop works before the pictures are taken."""

SHOP = """
import random
import time

from taskq import TaskQ, cron, every

app = TaskQ("shop")
orders = app.topic("orders")


@app.task(queue="emails", max_retries=2)
def send_receipt(order: int, to: str, api_token: str) -> str:
    time.sleep(random.uniform(0.01, 0.06))
    if random.random() < 0.06:
        raise ConnectionError(f"smtp-{random.randint(1, 3)}.example.org closed the connection")
    return f"receipt for order {order}"


@app.task(queue="billing", max_retries=0)
def charge(order: int, amount: float, card_number: str) -> dict:
    time.sleep(random.uniform(0.02, 0.1))
    if random.random() < 0.08:
        raise ValueError(f"order {order} has no open balance")
    if random.random() < 0.03:
        raise TimeoutError("the bank did not answer within 10 s")
    return {"order": order, "charged": amount}


@app.task(queue="images")
def thumbnail(path: str, size: int) -> str:
    time.sleep(random.uniform(0.1, 0.6))
    return f"{path}.{size}.webp"


@app.task(queue="partners", rate_limit="4/s")
def announce(order: int) -> None:
    time.sleep(0.01)


@app.periodic(every(10))
@app.task
def refresh_rates() -> int:
    return 3


@app.periodic(cron("0 2 * * *", tz="Europe/Paris"))
@app.task(queue="billing")
def close_the_day() -> None: ...


@app.batch_job(every(20), source="orders", page=20)
def settle_orders(window) -> dict:
    total = window.state or 0
    for page in window.pages():
        total += sum(event.payload["total"] for event in page)
        time.sleep(0.5)
        page.commit(total)
    return {"turnover": round(total, 2)}


@app.subscriber("orders", group="analytics")
def count(event) -> None: ...


@app.subscriber("orders", group="warehouse")
def pack(event) -> None:
    time.sleep(random.uniform(0, 0.05))
"""


@pytest.mark.leaves_keys("the shop is stopped in the middle of its work")
def test_pictures_of_every_page(
    spawn: Callable[..., Proc], tmp_path: Path, redis_url: str, namespace: str, redis_client: Any
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    env = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace, "TASKQ_DASHBOARD_PASSWORD": OPERATOR}
    for _ in range(2):
        wait_for_line(spawn("-m", "taskq", "worker", "-A", "shop:app", "-c", "3", "-B", env=env), "slots")
    process = spawn("-m", "taskq", "dashboard", "-A", "shop:app", "--port", "0", env=env)
    address = wait_for_line(process, r"on (http://127\.0\.0\.1:\d+)")[1]
    app = TaskQ("customers", broker_url=redis_url, namespace=namespace)
    app.topic("orders")
    with chromium() as browser:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{address}/login")
        page.fill("#secret", OPERATOR)
        page.click("main button")
        page.wait_for_url(f"{address}/")
        work(app, SECONDS)
        pages = addresses(app)
        app.pause("images")
        work(app, 5)
        folder = Path(FOLDER)
        folder.mkdir(parents=True, exist_ok=True)
        for name, path in pages.items():
            for suffix, (window, colours) in WINDOWS.items():
                page.set_viewport_size(window)
                page.emulate_media(color_scheme=colours)
                answer = page.goto(address + path)
                assert answer is not None
                assert answer.status == 200, path
                page.wait_for_timeout(1200)
                work(app, 0.3)
                page.screenshot(path=folder / f"dashboard-{name}-{suffix}.png")
    app.close()


def addresses(app: TaskQ) -> dict[str, str]:
    letter = eventually(lambda: app.dlq.list("billing", limit=1))[0]
    app.dlq.replay([letter.entry], queue="billing", actor="olga")
    letter = app.dlq.list("billing", limit=1)[0]
    sent = app.send_task("shop.thumbnail", ["/media/1.jpg", 128], queue="images", countdown=300)
    return {
        "overview": "/",
        "queues": "/queues",
        "queue": "/queues/billing",
        "workers": "/workers",
        "tasks": "/tasks",
        "messages": "/messages?queue=emails&state=delayed",
        "ended": "/ended",
        "message": f"/messages/{sent.id}?queue=images",
        "dlq": "/dlq",
        "letter": f"/dlq/letters/billing/{letter.entry}",
        "edit": f"/dlq/letter/edit/billing/{letter.entry}",
        "schedules": "/schedules",
        "schedule": "/schedules/shop.refresh_rates",
        "batch-jobs": "/batch-jobs",
        "events": "/events",
        "topic": "/events/orders",
        "limits": "/limits",
        "audit": "/audit",
    }


def work(app: TaskQ, seconds: float) -> None:
    """Customers order for some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        order = random.randint(1000, 9999)
        app.send_task("shop.send_receipt", [order, "ada@example.org", "tok-99"], queue="emails", max_retries=2)
        app.send_task("shop.charge", [order, round(random.uniform(5, 300), 2), "4111-1111"], queue="billing")
        if random.random() < 0.4:
            app.send_task("shop.thumbnail", [f"/media/{order}.jpg", 128], queue="images")
        if random.random() < 0.2:
            app.send_task("shop.announce", [order], queue="partners")
        if random.random() < 0.1:
            app.send_task("shop.send_receipt", [order, "bob@example.org", "tok"], queue="emails", countdown=600)
        app.publish("orders", {"order": order, "total": round(random.uniform(5, 300), 2)})
        time.sleep(random.uniform(0.02, 0.08))
