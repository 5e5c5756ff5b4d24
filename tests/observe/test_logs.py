"""Logging: the task is on every line that it writes, wherever it runs, and nobody else's loggers are touched."""

from __future__ import annotations

import io
import json
import logging
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.process import ROOT, Proc
from support.wait import eventually, wait_for_line
from support.worker import running_worker

from taskq import TaskQ, logs

POOLS_APP = """
import asyncio, logging
from taskq import TaskQ
from taskq.logs import get_task_logger

app = TaskQ("shop")
logger, own = get_task_logger(__name__), logging.getLogger("shop")

@app.task(name="sync")
def sync(n):
    logger.info("in sync %d", n, extra={"order": n})
    own.warning("of the app")

@app.task(name="coro")
async def coro(n):
    await asyncio.sleep(0)
    await asyncio.to_thread(logger.info, "in coro %d", n)

@app.task(name="broken", max_retries=1, retry_backoff=0.01)
def broken():
    raise ValueError("no money")
"""


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the logger "taskq" writes as JSON; the logger is put back as it was."""
    logger, sink = logging.getLogger("taskq"), io.StringIO()
    before = (logger.handlers[:], logger.level, logger.propagate)
    handler = logging.StreamHandler(sink)
    handler.setFormatter(logs.JsonFormatter())
    handler.addFilter(logs.TaskFilter())
    logger.handlers[:], logger.propagate = [handler], False
    logger.setLevel("INFO")
    yield sink
    logger.handlers[:], logger.level, logger.propagate = before


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_each_line_of_a_task_names_it(app: TaskQ, log: io.StringIO, pool: str) -> None:
    @app.task(name="pay", queue="money", max_retries=1, retry_backoff=0.01)
    def pay() -> None:
        logs.get_task_logger("shop").info("paying", extra={"order": 7})
        raise ValueError("declined")

    @app.task(name="ship", queue="goods")
    async def ship() -> None:
        logs.get_task_logger("shop").info("shipping")

    with running_worker(app, pool=pool, concurrency=1):
        paid, shipped = pay.delay(), ship.delay()
        shipped.get(timeout=30)
        paid.get(timeout=30, propagate=False)
    found = [line for line in lines(log.getvalue()) if line["logger"].startswith("taskq.task")]
    shipping = next(line for line in found if line["message"] == "shipping")
    assert {name: shipping[name] for name in logs.FIELDS} == {
        "task_id": shipped.id, "task": "ship", "queue": "goods", "attempt": 1
    }  # fmt: skip
    of_pay = [line for line in found if line["task_id"] == paid.id]
    assert [(line["message"].partition(":")[0], line["attempt"]) for line in of_pay] == [
        ("paying", 1),
        ("pay failed", 1),
        ("paying", 2),
        ("pay is a dead letter (failed)", 2),
    ]
    assert of_pay[0]["order"] == 7
    assert "ValueError: declined" in of_pay[-1]["traceback"]
    app.dlq.purge()


@pytest.mark.slow
def test_child_processes_log_like_their_parent(
    tmp_path: Path, spawn: Callable[..., Proc], redis_url: str, namespace: str, app: TaskQ
) -> None:
    (tmp_path / "logged_app.py").write_text(POOLS_APP)
    secret = redis_url.replace("redis://", "redis://:hidden-pw@")
    environment = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace, "TASKQ_LOG_FORMAT": "json"}
    command = ("-m", "taskq", "worker", "-A", "logged_app:app", "-P", "processes", "-c", "1", "--log-also", "shop")
    worker = spawn(*command, env=environment)
    wait_for_line(worker, "pool:")
    first, second = app.send_task("sync", (1,)), app.send_task("coro", (2,))
    app.send_task("broken")
    eventually(lambda: app.dlq.count() == 1 and second.ready())
    found = {line["message"]: line for line in lines(worker.output())}
    assert (found["in sync 1"]["task_id"], found["in sync 1"]["order"]) == (first.id, 1)
    assert (found["of the app"]["logger"], found["of the app"]["task_id"]) == ("shop", first.id)
    assert (found["in coro 2"]["task"], found["in coro 2"]["task_id"]) == ("coro", second.id)
    assert "again in" in next(text for text in found if text.startswith("broken failed: ValueError: no money"))
    # a password in the URL stays out of logs and errors
    refused = spawn("-m", "taskq", "worker", "-A", "logged_app:app", env=environment | {"TASKQ_BROKER_URL": secret})
    assert refused.wait() == 69
    assert "hidden-pw" not in refused.output()
    app.dlq.purge()
    worker.signal(signal.SIGTERM)
    worker.wait()


CONFIGURED_APP = """
import logging.config
logging.config.dictConfig({
    "version": 1,
    "formatters": {"f": {"format": "APP %(name)s %(message)s"}},
    "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}},
    "root": {"handlers": ["h"], "level": "INFO"},
})
""" + POOLS_APP.replace('"shop")\n', '"logged_app")\n', 1)
"""Its ``dictConfig`` turns off what exists, by its default."""


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("-w", "2"), ("-P", "processes", "-c", "1")], ids=["threads", "w", "processes"])
def test_a_dict_config_of_the_app_leaves_the_workers_loggers_on(
    tmp_path: Path, spawn: Callable[..., Proc], redis_url: str, namespace: str, app: TaskQ, flags: tuple[str, ...]
) -> None:
    (tmp_path / "logged_app.py").write_text(CONFIGURED_APP)
    environment = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace}
    worker = spawn("-m", "taskq", "worker", "-A", "logged_app:app", *flags, env=environment)
    wait_for_line(worker, r"\(Redis")
    app.send_task("sync", (1,)).get(timeout=60)
    app.send_task("broken")
    eventually(lambda: app.dlq.count() == 1)
    worker.signal(signal.SIGTERM)
    worker.wait()
    output = worker.output()
    assert "taskq.task.logged_app: in sync 1" in output
    assert "APP shop of the app" in output, "the app's own loggers are shown as it says"
    assert "broken is a dead letter" in output
    app.dlq.purge()


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("-w", "2"), ("-P", "processes", "-c", "1")], ids=["threads", "w", "processes"])
def test_what_the_apps_own_logger_says_is_shown_where_nothing_was_configured(
    tmp_path: Path, spawn: Callable[..., Proc], redis_url: str, namespace: str, app: TaskQ, flags: tuple[str, ...]
) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tasks.py").write_text(
        "import logging\nfrom taskq import TaskQ\napp = TaskQ('shop')\nlogger = logging.getLogger(__name__)\n"
        "@app.task(name='sync')\ndef sync():\n    logger.info('for everybody')\n    logger.debug('not asked for')\n"
        "    logging.getLogger('library').info('of somebody else')\n"
    )
    environment = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace}
    worker = spawn("-m", "taskq", "worker", "-A", "shop.tasks:app", *flags, env=environment)
    wait_for_line(worker, r"\(Redis")
    result = app.send_task("sync")
    result.get(timeout=60)
    worker.signal(signal.SIGTERM)
    worker.wait()
    (line,) = [line for line in worker.output().splitlines() if "for everybody" in line]
    assert "INFO    shop.tasks: for everybody" in line
    assert result.id in line
    assert "not asked for" not in worker.output()
    assert "of somebody else" not in worker.output()


def test_outside_of_tasks_the_fields_are_none_and_others_are_kept() -> None:
    record = logging.makeLogRecord({"msg": "hello", "queue": "mine"})
    assert logs.TaskFilter().filter(record)
    assert [getattr(record, name) for name in logs.FIELDS] == [None, None, "mine", None]
    assert logs.TextFormatter().format(record).endswith("hello")
    assert logs.task_fields() == {}


def test_only_named_loggers_are_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    root, taskq, shop = logging.getLogger(), logging.getLogger("taskq"), logging.getLogger("shop-of-logs")
    before = (root.handlers[:], root.level, taskq.handlers[:], taskq.level, taskq.propagate)
    try:
        logs.setup("info", also=["shop-of-logs"])
        logs.setup("info", also=["shop-of-logs"])
        shop.info("seen once")
        logging.getLogger("other-of-logs").info("not seen")
        assert (root.handlers, root.level) == before[:2]
        assert logs.active() == ("info", "text", ("shop-of-logs",))
    finally:
        shop.handlers.clear()
        taskq.handlers[:], taskq.level, taskq.propagate = before[2:]
    assert [line.split(": ")[-1] for line in capsys.readouterr().err.splitlines()] == ["seen once"]


def test_structlog_gets_the_task(app: TaskQ) -> None:
    structlog = pytest.importorskip("structlog")
    seen: list[dict[str, Any]] = []

    def keep(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        seen.append(dict(event))
        raise structlog.DropEvent

    log = structlog.wrap_logger(None, processors=[logs.add_task, keep])

    @app.task(name="pay")
    def pay() -> None:
        log.info("paying", order=7)

    with running_worker(app):
        result = pay.delay()
        result.get(timeout=30)
    log.info("outside")
    expected = {"task_id": result.id, "task": "pay", "queue": "default", "attempt": 1}
    assert seen == [{"event": "paying", "order": 7, **expected}, {"event": "outside"}]


def test_threads_of_two_tasks_do_not_mix(app: TaskQ, log: io.StringIO) -> None:
    both = threading.Barrier(2, timeout=20)

    @app.task(name="pay")
    def pay(n: int) -> None:
        both.wait()
        logs.get_task_logger("shop").info("%d", n)

    with running_worker(app, concurrency=2):
        results = pay.delay_many([(1,), (2,)])
        for result in results:
            result.get(timeout=20)
    found = {line["message"]: line["task_id"] for line in lines(log.getvalue()) if "task_id" in line}
    assert found == {"1": results[0].id, "2": results[1].id}


def test_loggers_are_named_after_what_they_tell_of_and_not_after_files() -> None:
    """Their names stand in the configuration of users, who must not notice that a file has moved."""
    texts = [path.read_text() for path in (ROOT / "taskq").rglob("*.py")]
    names = {name for text in texts for name in re.findall(r"getLogger\(([^)f]+)\)", text)} - {"name", "package"}
    assert names
    assert not [name for name in names if not re.fullmatch(r'"taskq\.[a-z]+"', name)]
