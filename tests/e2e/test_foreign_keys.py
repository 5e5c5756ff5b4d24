"""Every key of the data model holds something of every other type: what is not of that key goes on."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner
from support.browser import Browser
from support.worker import running_worker

from taskq import TaskQ
from taskq.beat.beat import Beat
from taskq.broker import keys as data_model
from taskq.cli import main
from taskq.dashboard import asgi
from taskq.observe.doctor import examine
from taskq.observe.metrics import Exporter

TYPES = {
    "string": lambda client, key: client.set(key, "\xff-1e999"),
    "number": lambda client, key: client.set(key, "9" * 400),
    "list": lambda client, key: client.rpush(key, "nan", "-5", b"\xff", ""),
    "hash": lambda client, key: client.hset(key, mapping={"nan": "inf", b"\xff": "-5", "n:x": "9" * 400, "": ""}),
    "set": lambda client, key: client.sadd(key, "-5", "nan", "", b"\xff", "9" * 400),
    "zset": lambda client, key: client.zadd(key, {"": "inf", "-5": "-inf", b"\xff": 0, "x" * 400: 9e300}),
    "stream": lambda client, key: client.xadd(key, {"m": "nan", b"\xff": "-5"}, id="18446744073709551615-1"),
    "stream with a group": lambda client, key: (
        client.xadd(key, {b"\xff": "x"}, id="1-1"),
        client.xgroup_create(key, "taskq", "0"),
    ),
}
NAMES = {"level": "5", "task id": "id", "task": "add", "name": "often", "consumer": "host:1:aaaa"}
"""What stands for a hole in the name of a key; else the letter k."""


def families() -> list[str]:
    """The keys of the table in the data model, with ``{q}`` and ``{t/}`` as they stand there."""
    rows = re.findall(r"^``ns:(\S.*?)``\s", data_model.__doc__ or "", flags=re.M)
    return [re.sub(r"<([^>]+)>", lambda hole: NAMES.get(hole[1], "k"), row) for row in rows]


FAMILIES = families()


def test_the_table_is_read_whole() -> None:
    rows = (data_model.__doc__ or "").split("=\n")[2]
    assert len(FAMILIES) == rows.count("``ns:")
    assert len(FAMILIES) > 40


COMMANDS = (
    *(["queues"], ["workers"], ["tasks", "list", "q"], ["dlq", "list"], ["dlq", "groups"], ["dlq", "runs"]),
    *(["schedule", "list"], ["events", "topics"], ["jobs", "list"], ["doctor"]),
)
PAGES = ("/", "/queues", "/queues/q", "/workers", "/tasks", "/dlq", "/schedules", "/events", "/limits")


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(
            family,
            marks=[pytest.mark.leaves_keys("a worker that lost its lease leaves its other leases to run out")]
            if family == "{q}:consumers"
            else [],
        )
        for family in FAMILIES
    ],
)
def test_what_is_not_of_that_key_goes_on(
    make_app: Callable[..., TaskQ],
    redis_client: Any,
    redis_url: str,
    namespace: str,
    family: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Worker and beat start with one type there, and live through the others; nothing comes as a surprise."""
    app = make_app(lease_timeout=1)
    app.register(lambda: "done", name="neighbour", bind=False, settings={"queue": "other"})
    app.register(lambda x: x, name="add", bind=False, settings={"queue": "q"})
    app.topic("t")
    redis_client.sadd(app.keys.queues, "q", "other")
    redis_client.sadd(app.keys.topics, "t")
    key = f"{namespace}:{family}"
    first = FAMILIES.index(family) % len(TYPES)
    kinds = [*TYPES][first:] + [*TYPES][:first]
    write(redis_client, key, kinds[0])
    stop = threading.Event()
    beat = threading.Thread(target=Beat(app).run, args=(stop,), daemon=True)
    beat.start()
    try:
        with running_worker(app) as running:
            for kind in kinds:
                write(redis_client, key, kind)
                assert app.send_task("neighbour").get(timeout=20) == "done", kind
                look_at_everything(app, kind)
                if kind in (kinds[0], "hash"):  # they read as the dashboard does, and take longer
                    run_every_command(redis_url, namespace)
                assert (running.running, beat.is_alive()) == (True, True), kind
            redis_client.delete(key)
            assert app.send_task("neighbour").get(timeout=20) == "done"
    finally:
        stop.set()
        beat.join(20)
    assert not beat.is_alive()
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


def write(client: Any, key: str, kind: str) -> None:
    client.delete(key)
    TYPES[kind](client, key)


def look_at_everything(app: TaskQ, kind: str) -> None:
    examine(app)
    assert "taskq_up" in {metric.name for metric in Exporter(app).collect()}
    site = asgi.app(app)
    for page in PAGES:
        assert Browser(site).get(page).status in (200, 404), (kind, page)
    site.close()


def run_every_command(url: str, namespace: str) -> None:
    for words in COMMANDS:
        result = CliRunner().invoke(main, [*words, "-b", url, "--namespace", namespace])
        assert result.exception is None or isinstance(result.exception, SystemExit), (words, result.exception)
