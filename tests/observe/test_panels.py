"""Every panel of every dashboard shows something: a real Prometheus scrapes real processes under load.

``TASKQ_WRITE_PANELS=docs/grafana-panels.md python -m pytest tests/observe/test_panels.py`` writes down what it saw.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from support.process import Proc
from support.prometheus import Asked, Prometheus, expressions, filled, running_prometheus
from support.wait import eventually, wait_for_line

from taskq.client.app import TaskQ
from taskq.embedded import EmbeddedRedis
from taskq.errors import BrokerUnavailableError
from taskq.observe.metrics import SenderMetrics, serve

NS = "taskq"
PROVOKED = {"Trimmed unread", "Unknown tasks", "Calls that raised", "Spooled and dropped"}
"""Panels of troubles, which the load makes: a zero is not enough."""
APP = """
import asyncio
import time
from taskq import TaskQ, every

app = TaskQ("shop")
app.topic("orders", max_events=1000)
app.topic("clicks", max_events=10)


@app.task(ignore_result=True)
def pay() -> None:
    time.sleep(0.001)


@app.task(max_retries=0)
def refuse() -> None:
    raise ValueError("no")


@app.task(retry_backoff=1)
def flaky(calls: int) -> None:
    pay.delay()
    raise ConnectionError("the bank is away")


@app.task(queue="reports", ignore_result=True)
async def report() -> None:
    await asyncio.sleep(1)


@app.task(queue="partners", rate_limit="1/s", ignore_result=True)
def announce() -> None:
    pass


@app.subscriber("orders", group="stock")
def reserve(event) -> None:
    pass


@app.subscriber("clicks", group="ads")
def count(event) -> None:
    pass


@app.periodic(every(1), name="tidy")
@app.task(ignore_result=True)
def tidy() -> None:
    pass
"""


@pytest.fixture
def server(private_redis: Callable[..., EmbeddedRedis], tmp_path: Path) -> EmbeddedRedis:
    started = private_redis(tmp_path / "redis")
    app = TaskQ("test", started.url)
    app.sync_broker.execute("CONFIG", "SET", "maxmemory", 256 * 1024 * 1024)
    app.pause("clicks/ads")  # so its events are dropped before it has read them
    app.close()
    return started


@pytest.fixture
def targets(spawn: Callable[..., Proc], server: EmbeddedRedis, tmp_path: Path) -> list[str]:
    """A worker of two processes, a beat and an exporter: where they are scraped."""
    (tmp_path / "shop.py").write_text(APP)
    # a short lease: renewals, and so round trips, within the few seconds that Prometheus looks back
    environment = {"TASKQ_BROKER_URL": server.url, "TASKQ_LEASE_TIMEOUT": "3"}
    found = []
    for command in (
        ("worker", "-A", "shop:app", "-w", "2", "--metrics-port", "0"),
        ("beat", "-A", "shop:app", "--metrics-port", "0"),
        ("metrics", "-A", "shop:app", "--port", "0"),
    ):
        process = spawn("-m", "taskq", *command, path=tmp_path, env=environment)
        found.append(wait_for_line(process, r"on http://(127\.0\.0\.1:\d+)/metrics", 30)[1])
    return found


def cut_off(directory: Path) -> tuple[TaskQ, Callable[[], None]]:
    """An app that cannot reach Redis, and calls of it: kept, dropped, and refused."""
    settings = {"broker_deadline": 0.02, "spool_path": str(directory / "spool")}
    app = TaskQ("kiosk", "redis://127.0.0.1:1", **settings)
    kept, dropped, refused = (
        app.task(name=f"kiosk.{way}", when_unavailable=way)(lambda: None) for way in ("spool", "drop", "raise")
    )

    def call() -> None:
        if not app.sender.spooled:
            kept.delay()
        dropped.delay()
        with suppress(BrokerUnavailableError):
            refused.delay()

    return app, call


@contextmanager
def load(url: str, directory: Path) -> Iterator[list[str]]:
    """Something of everything, several times a second; where its own metrics are."""
    app, (kiosk, call_from_kiosk) = TaskQ("web", url), cut_off(directory)
    app.topic("orders", max_events=1000)
    app.topic("clicks", max_events=10)
    registry, aside, stop = CollectorRegistry(), CollectorRegistry(), threading.Event()
    SenderMetrics(kiosk, aside)
    SenderMetrics(app, registry)

    def send() -> None:
        while not stop.wait(0.1):
            with app.batch():
                for _ in range(5):
                    app.send_task("shop.pay")
                app.send_task("shop.pay", countdown=0.1)
                app.send_task("shop.report", queue="reports")
                app.send_task("shop.refuse")
                app.send_task("shop.announce", queue="partners")
                app.send_task("shop.flaky", (1,))
                app.send_task("shop.gone")
            app.publish("orders", {"id": 1})
            app.publish_many("clicks", [{"id": 1}] * 50)
            call_from_kiosk()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with closing(serve(registry)) as web, closing(serve(aside)) as other:
            yield [f"127.0.0.1:{endpoint.port}" for endpoint in (web, other)]
    finally:
        stop.set()
        sender.join()
        app.close()
        kiosk.close()


@pytest.mark.slow
def test_every_panel_shows_something(server: EmbeddedRedis, targets: list[str], tmp_path: Path) -> None:
    asked = expressions()
    with load(server.url, tmp_path) as senders, running_prometheus(tmp_path, [*targets, *senders]) as prometheus:
        missing = list(asked)

        def answered() -> bool:
            missing[:] = [one for one in missing if not shown(values(prometheus, one), one.panel)]
            return not missing

        eventually(
            answered, 40, lambda: "no data for:\n" + "\n".join(f"{one.panel}: {one.expression}" for one in missing)
        )
        assert eventually(lambda: prometheus.query('taskq:task_failures:ratio_rate5m{task="shop.refuse"}'))
        if wanted := os.environ.get("TASKQ_WRITE_PANELS"):
            Path(wanted).write_text(table(asked, prometheus), "utf-8")


def shown(found: list[float], panel: str) -> bool:
    """Whether a panel shows what the load provokes."""
    return max(found, default=0.0) > 0 if panel in PROVOKED else bool(found)


def values(prometheus: Prometheus, one: Asked) -> list[float]:
    """What an expression shows now."""
    found = [float(row["value"][1]) for row in prometheus.query(filled(one.expression, NS))]
    return [value for value in found if value == value]  # a quantile of nothing is NaN


def table(asked: list[Asked], prometheus: Prometheus) -> str:
    """What every panel showed, as a page."""
    lines = [
        "# Every panel, and what it showed",
        "",
        "Written by `TASKQ_WRITE_PANELS=docs/grafana-panels.md python -m pytest tests/observe/test_panels.py`:",
        "a worker of two processes, a beat, a sender and `taskq metrics` for some seconds, scraped by Prometheus.",
    ]
    title = ""
    for one in asked:
        if one.dashboard != title:
            title = one.dashboard
            lines += ["", f"## {title}", "", "| panel | expression | series | largest |", "|---|---|---|---|"]
        found = values(prometheus, one)
        lines.append(f"| {one.panel} | `{one.expression}` | {len(found)} | {max(found, default=0.0):.4g} |")
    return "\n".join(lines) + "\n"
