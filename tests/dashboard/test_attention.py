"""What the overview and the workers' pages say when something is wrong: once for each cause, with last words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import Browser
from support.process import Proc
from support.wait import eventually, wait_for_line
from support.worker import run_burst, running_worker

from taskq import TaskQ, every
from taskq.beat.beat import Beat
from taskq.dashboard import watch

Make = Callable[[Any], Browser]


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each request looks again."""
    monkeypatch.setattr(watch, "SOONEST", 0)
    monkeypatch.setattr(watch, "pace", lambda _: 0)
    return


def said(visitor: Browser) -> list[str]:
    """What the overview points at, without the hints."""
    text = visitor.get("/?part=live", headers={"hx-request": "true"}).text
    found = re.findall(r'id="attention-\d+".*?<span>(.*?)(?:<small>|</span>)', text, re.DOTALL)
    return [" ".join(one.split()) for one in found]


def test_one_line_says_that_no_worker_runs_however_many_queues_wait(app: TaskQ, open_site: Any, browser: Make) -> None:
    for n in range(9):
        app.send_task("any", queue=f"q{n}")
    visitor = browser(open_site)
    (line,) = eventually(lambda: "9 queues" in (lines := said(visitor) or [""])[0] and lines)
    assert line == "No worker runs: 9 messages in 9 queues (q0, q1, q2 and 6 more)"
    app.task(name="any", queue="q0")(lambda: None)
    with running_worker(app, queues=["q0"]):
        (line,) = eventually(lambda: "8 queues" in (lines := said(visitor) or [""])[0] and lines)
    assert line == "No worker reads 8 queues (q1, q2, q3 and 5 more): 8 messages wait"
    for n in range(9):
        app.purge(f"q{n}")


def test_without_a_beat_the_overview_says_so(app: TaskQ, open_site: Any, browser: Make) -> None:
    app.task(name="shop.refresh")(lambda: None)
    visitor = browser(open_site)
    assert "Nothing needs attention" in eventually(lambda: "needs attention" in (t := visitor.get("/").text) and t)
    app.schedules.add("refresh", every(3600), "shop.refresh")
    assert said(visitor) == ["No beat runs: 1 schedule does not fire"]
    Beat(app).tick()
    assert said(visitor) == []
    app.schedules.remove("refresh")


def test_overdue_schedules_are_named(app: TaskQ, open_site: Any, browser: Make, redis_client: Any) -> None:
    app.task(name="shop.refresh")(lambda: None)
    for name in ("a", "b", "c", "d"):
        app.schedules.add(name, every(1), "shop.refresh")
    Beat(app).tick()
    seen = open_site._site.watch.seen([])
    late = [info for info in seen.schedules if info.overdue >= 0]
    assert len(late) == 4
    visitor = browser(open_site)
    keys = app.keys.queue("default")
    for name in ("a", "b", "c", "d"):  # as if nobody had fired them for an hour
        fired = redis_client.hget(keys.schedule(name), "fired")
        redis_client.hset(keys.schedule(name), "fired", int(fired) - 3_600_000)
    (line,) = [line for line in said(visitor) if "overdue" in line]
    assert re.fullmatch(r"4 schedules are overdue: a, b, c and 1 more, for (60 min|1 h)", line), line
    for name in ("a", "b", "c", "d"):
        app.schedules.remove(name)
    app.purge("default", delayed=True)


def test_dead_letters_are_pointed_at_new_ones_and_those_that_stand(app: TaskQ, open_site: Any, browser: Make) -> None:
    def fail() -> None:
        raise ValueError("no")

    app.task(name="shop.fail", max_retries=0)(fail)
    app.tasks["shop.fail"].delay_many([()] * 3)
    run_burst(app)
    visitor = browser(open_site)
    lines = eventually(lambda: (found := said(visitor)) and [one for one in found if "dead letters" in one])
    assert lines == ["3 dead letters, 3 new in the last hour"]
    app.dlq.purge()


def test_workers_of_several_queues_count_once(app: TaskQ, open_site: Any, browser: Make) -> None:
    for queue in ("alpha", "beta", "gamma"):
        app.task(name=f"shop.{queue}", queue=queue)(lambda: None)
    with running_worker(app, queues=["alpha", "beta", "gamma"]):
        visitor = browser(open_site)
        eventually(lambda: "<span>1 worker</span>" in visitor.get("/").text)


@pytest.mark.leaves_keys("the workers are killed")
def test_dead_workers_are_one_cause_and_keep_their_last_words(
    spawn: Callable[..., Proc],
    app: TaskQ,
    make_app: Callable[..., TaskQ],
    open_site: Any,
    browser: Make,
    redis_url: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "shop.py").write_text(
        "import time\nfrom taskq import TaskQ\n"
        'app = TaskQ("shop", lease_timeout=1)\n'
        '@app.task(name="shop.sleep", queue="slow")\ndef sleep(): time.sleep(60)\n'
        '@app.task(name="shop.other", queue="other")\ndef other(): ...\n'
    )
    env = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": app.keys.namespace}
    process = spawn("-m", "taskq", "worker", "-A", "shop:app", "-c", "1", env=env)
    wait_for_line(process, "slots")
    visitor = browser(open_site)
    sent = app.send_task("shop.sleep", queue="slow").id
    text = eventually(lambda: "alive" in (text := visitor.get("/workers").text) and text)
    name = re.search(r'href="/workers/([^"]+)"', text)[1]  # type: ignore[index]
    eventually(lambda: sent in visitor.get(f"/workers/{name}").text)
    process.kill()
    process.wait()
    app.send_task("shop.sleep", queue="slow")
    app.send_task("shop.other", queue="other")
    pattern = r"No worker runs: 2 messages in 2 queues \(.*\); 1 worker is late or dead, since .*"
    eventually(lambda: any(re.fullmatch(pattern, line) for line in said(visitor)))
    eventually(lambda: ">dead</span>" in visitor.get("/workers").text)
    listed, one = visitor.get("/workers").text, visitor.get(f"/workers/{name}").text
    for false in ("0 B", "all the same", "first report", "0 of 0"):
        assert false not in listed, false
    assert "no worker is alive" in listed
    assert sent in one, "what it ran last"
    assert "Running at its last report" in one
    heir = make_app(lease_timeout=1)
    heir.task(name="shop.sleep", queue="slow")(lambda: None)
    with running_worker(heir, queues=["slow", "other", "default"]):  # it takes over, and the dead one's lease goes
        eventually(lambda: name not in visitor.get("/workers").text)
        assert "Running at its last report" in visitor.get(f"/workers/{name}").text


def test_tasks_that_no_worker_knows_are_named(app: TaskQ, open_site: Any, browser: Make) -> None:
    app.task(name="shop.work")(lambda: None)
    visitor = browser(open_site)
    with running_worker(app):
        app.send_task("shop.renamed", queue="default")
        pattern = r"No worker knows shop.renamed: messages wait for .*"
        eventually(lambda: any(re.fullmatch(pattern, line) for line in said(visitor)))
    app.purge("default", delayed=True)
